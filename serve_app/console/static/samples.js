// Series to try: a real one, and others made here by a seeded generator; each says which it is.

import { DAILY, LAST_DAY } from "./house_polls.js";

const GENERATED = "Made by a generator, not a real market.";

export const SAMPLES = [
  { id: "lively", name: "Lively market (generated)", points: 288, seed: 11, start: 0.2, noise: 0.045, calm: 0.55 },
  { id: "jump", name: "Jump on news (generated)", points: 288, seed: 5, start: -0.9, noise: 0.02, calm: 0.7, jumpAt: 250, jump: 1.4 },
  { id: "sure", name: "Nearly settled (generated)", points: 288, seed: 23, start: 2.9, noise: 0.035, calm: 0.8 },
  { id: "gaps", name: "With gaps (generated)", points: 288, seed: 31, start: -0.1, noise: 0.04, calm: 0.6, gaps: true },
  { id: "short", name: "Too short for a model (generated)", points: 20, seed: 47, start: 0.5, noise: 0.06, calm: 0.3 },
  { id: "house", name: "US House polls 2016, daily (real)", source: "Democrats' share in polls for the US House. Data: FiveThirtyEight, CC BY 4.0." },
];

const STEP_MS = 300000;
const DAY_MS = 86400000;

const find = (id) => SAMPLES.find((one) => one.id === id);

/** Where a sample comes from, in a sentence. */
export const sampleSource = (id) => (id ? find(id).source ?? GENERATED : "");

/** The text of a sample as if it had been pasted: a line of time and value for each step. */
export const sampleText = (id, nowMs) => (id === "house" ? housePolls() : generated(find(id), nowMs));

function housePolls() {
  const last = Date.parse(LAST_DAY);
  const lines = DAILY.map((value, i) => `${new Date(last - (DAILY.length - 1 - i) * DAY_MS).toISOString().slice(0, 10)},${(value / 10000).toFixed(4)}`);
  return ["time,value", ...lines].join("\n");
}

function generated(sample, nowMs) {
  const random = seeded(sample.seed);
  const end = Math.floor(nowMs / STEP_MS) * STEP_MS;
  const lines = ["time,value"];
  let logit = sample.start;
  for (let i = 0; i < sample.points; i += 1) {
    if (random() > sample.calm) logit += sample.noise * normal(random);
    if (i === sample.jumpAt) logit += sample.jump;
    const missing = sample.gaps && ((i > 2 && i % 41 < 3) || i === 150);
    const when = new Date(end - (sample.points - 1 - i) * STEP_MS).toISOString().replace(".000Z", "Z");
    lines.push(`${when},${missing && i < sample.points - 1 ? "" : (1 / (1 + Math.exp(-logit))).toFixed(4)}`);
  }
  return lines.join("\n");
}

// mulberry32: 32 bits of state are plenty for a sample
function seeded(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const normal = (random) => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
