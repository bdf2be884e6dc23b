// The result: the chart, the same values as a table, and ways to take them along.

import { byId, choices, h, table } from "./dom.js";
import { copyText, csvOf, curlOf, save, savePng } from "./export.js";
import { decimals, drawFan, lastPrice, levelName, pathOf, stepMs, timesAfter } from "./fan.js";
import { drawWhy, verdict } from "./why.js";

const RANGES = [24, 72, 288]; // steps: 2, 6 and 24 hours of a series of 5 minutes

let shown = null; // {title, request, main, baseline} of what is on the page
let unit = "%";
let chosenRange = null; // steps; null until a button is used

/** Shows an answer, and that of the baseline over it where there is one. */
export async function show(title, request, main, baseline) {
  shown = { title, request, main, baseline };
  for (const id of ["shown", "why"]) byId(id).hidden = false;
  byId("baseline").hidden = isBaseline(main);
  byId("curl").textContent = curlOf(request);
  byId("result-title").textContent = title;
  choices(byId("ranges"), ranges(), range(), (steps) => {
    chosenRange = steps;
    redraw();
  });
  drawWhy(byId("why-body"), main);
  const { top } = byId("chart").getBoundingClientRect();
  if (top < 0 || top > innerHeight / 2) byId("result").scrollIntoView(); // a phone
  await redraw();
}

/** Takes the result off the page: it would be that of another series. */
export function hide(message) {
  shown = null;
  for (const id of ["shown", "why"]) byId(id).hidden = true;
  byId("result-title").textContent = "Forecast";
  byId("price").textContent = "";
  byId("announce").textContent = message;
}

export const isShown = () => shown !== null;
export const wantsBaseline = () => byId("baseline").getAttribute("aria-pressed") === "true";

/** Draws again, in the present theme, unit and range. */
export async function redraw() {
  if (!shown) return;
  const { request, main, baseline, title } = shown;
  const overlay = wantsBaseline() && !isBaseline(main) ? baseline : null;
  const hue = isBaseline(main) ? "base" : "accent";
  const summary = summaryOf(main.body);
  byId("price").replaceChildren("Last price ", h("strong", {}, inUnit(lastPrice(request))), ` on ${shortTime(main.body.as_of_ts)} UTC, market ${request.market_id}`);
  byId("announce").textContent = summary;
  byId("legend").replaceChildren(...legend(main.body, hue, overlay));
  byId("chart").setAttribute("aria-label", `${title}. ${summary}`);
  byId("values-table").replaceChildren(valuesTable());
  await drawFan(byId("chart"), { request, main, overlay }, { hue, steps: range(), unit });
}

/** Wires the buttons; `askBaseline` makes the second request where it was not made with the first. */
export function startTools(askBaseline) {
  const stem = () => `forecast-${shown.request.market_id.replace(/[^\w.-]+/g, "_")}`;
  byId("csv").addEventListener("click", () => save(`${stem()}.csv`, csvOf(shown.main.body, columns()), "text/csv"));
  byId("png").addEventListener("click", () => savePng(byId("chart"), shown.title, `${stem()}.png`));
  choices(byId("units"), [["%", "%"], ["¢", "¢"]], unit, (picked) => {
    unit = picked;
    redraw();
  });
  byId("baseline").addEventListener("click", async () => {
    byId("baseline").setAttribute("aria-pressed", String(!wantsBaseline()));
    const asked = shown;
    if (wantsBaseline()) asked.baseline ??= await askBaseline(asked.request);
    await redraw();
  });
  byId("copy").addEventListener("click", async () => {
    byId("announce").textContent = (await copyText(byId("curl"))) ? "The command is copied." : "Select the command and copy it: this browser does not allow it.";
  });
}

const isBaseline = ({ body }) => body.meta.runtime === "baseline";
const shortTime = (time) => time.slice(0, 16).replace("T", " ");

/** `[steps, words]` of the parts of the history that can be shown. */
function ranges() {
  const { request, main } = shown;
  const shorter = RANGES.filter((steps) => steps < request.y.length);
  return [...shorter.map((steps) => [steps, timeSpan(steps * stepMs(main.body.freq))]), [Infinity, "All"]];
}

/** The steps that are shown: as chosen, else about five times what is forecast. */
function range() {
  const known = ranges().map(([steps]) => steps);
  return known.includes(chosenRange) ? chosenRange : known.find((steps) => steps >= 5 * shown.main.body.horizon_steps);
}

function timeSpan(ms) {
  const minutes = ms / 60000;
  if (minutes % 1440 === 0 && minutes > 1440) return `${minutes / 1440} days`;
  return minutes % 60 === 0 ? `${minutes / 60} h` : `${minutes} min`;
}

function inUnit(value) {
  const paths = Object.values(shown.main.body.yhat_q).flat();
  return `${(100 * value).toFixed(decimals([100 * Math.min(...paths), 100 * Math.max(...paths)]))} ${unit}`;
}

function legend(body, hue, overlay) {
  const names = body.quantiles.map(levelName);
  const who = isBaseline({ body }) ? "Baseline, in place of the model" : body.meta.model_name;
  return [
    h("span", { class: "key ink" }, "price"),
    h("span", { class: `key ${hue}` }, h("strong", {}, body.meta.cache_stale ? `${who}, an earlier answer` : who), ` ${names.length > 1 ? `${names[0]} to ${names.at(-1)}` : names[0]}`),
    body.yhat_q_conformal && h("span", { class: "key calibrated" }, "calibrated"),
    overlay && h("span", { class: "key dotted" }, "baseline"),
    h("span", {}, "times in UTC"),
  ].filter(Boolean);
}

/** The last step in a sentence, the highest level first. */
function summaryOf(body) {
  const last = body.quantiles.map((level) => `${levelName(level)} ${inUnit(pathOf(body.yhat_q, level).at(-1))}`).reverse();
  return `${verdict(body.meta)} In ${timeSpan(body.horizon_steps * stepMs(body.freq))}: ${last.join(", ")}.`;
}

/** `{name, path}` of every level, for the table and the CSV. */
function columns() {
  const { main, baseline } = shown;
  const of = (name, { quantiles }, paths) => (paths ? quantiles.map((level) => ({ name: `${name} ${level}`, path: pathOf(paths, level) })) : []);
  const who = isBaseline(main) ? "baseline" : main.body.meta.model_name;
  return [
    ...of(who, main.body, main.body.yhat_q),
    ...of(`${who} calibrated`, main.body, main.body.yhat_q_conformal),
    ...(baseline && !isBaseline(main) ? of("baseline", baseline.body, baseline.body.yhat_q) : []),
  ];
}

function valuesTable() {
  const { as_of_ts: asOf, freq, horizon_steps: steps } = shown.main.body;
  const shownColumns = columns();
  return table("Values by step", ["Time, UTC", ...shownColumns.map(({ name }) => name)],
    timesAfter(asOf, freq, steps).map((time, i) => [shortTime(time), ...shownColumns.map(({ path }) => inUnit(path[i]))]));
}
