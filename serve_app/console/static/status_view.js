// What the service reports of itself, as tiles, small charts and tables.

import { h, millis, percent, span, table } from "./dom.js";
import { CONFIG, layout, plotly } from "./plot.js";
import { colour } from "./theme.js";
import { ADVICE, BREAKERS, MISCOVERS, reasonWords, skill, takes } from "./words.js";

/** Everything but the charts, for which places are left that stay between two drawings. */
export function drawStatus(place, status) {
  if (!place.querySelector(".trend")) place.replaceChildren(...frame());
  place.classList.remove("old");
  const parts = { tiles: tiles(status), reasons: reasons(status), coverage: coverage(status), skill: skillTable(status), models: models(status) };
  for (const [name, content] of Object.entries(parts)) {
    place.querySelector(`[data-part=${name}]`).replaceChildren(...content);
  }
}

function frame() {
  const part = (name, title) => h("div", { class: "card scroll", "data-part": name, tabindex: "0", role: "region", "aria-label": title });
  const trend = (name, title, keys = []) => h("figure", { class: "card" }, h("figcaption", {}, h("strong", {}, title), keys), h("div", { class: "trend", "data-trend": name, role: "img", "aria-label": title }));
  return [
    h("div", { class: "tiles", "data-part": "tiles" }),
    h("div", { class: "grid" },
      trend("latency", "Answer times", [key("p95", "base"), key("p50", "accent")]),
      trend("fallback", "Share of fallbacks"),
      part("reasons", "Fallbacks by reason"),
      part("coverage", "Coverage"),
      part("skill", "Skill"),
      part("models", "Models")),
  ];
}

const key = (text, hue) => h("span", { class: `key ${hue}` }, text);

function tiles({ requests, queue, replicas, uptime_s: uptime, version, environment, window_s: window }) {
  const tile = (name, value, hint) => h("div", { class: "card tile" }, h("p", { class: "name" }, name), h("p", { class: "value" }, value), h("p", { class: "hint" }, hint));
  return [
    tile("Requests", `${rate(requests?.rate_per_s)}/s`, `${requests?.total ?? 0} in the last ${span(window ?? 300)}`),
    tile("Fallbacks", percent(requests?.fallback_share, 1), "answers not made by the model"),
    tile("From the cache", percent(requests?.cache_hit_share), "of all answers"),
    tile("Answer time", millis(requests?.p50_ms), `p50; p95 ${millis(requests?.p95_ms)}`),
    tile("Queue", `${queue?.waiting ?? "–"}`, "series waiting for the model"),
    tile("Under way", `${queue?.in_flight ?? 0}`, queue ? `baseline only above ${queue.shed_above}, refused above ${queue.refuse_above}` : ""),
    tile("Replicas", Object.values(replicas ?? {}).filter((n) => n !== null).reduce((a, b) => a + b, 0) || "–", counts(replicas)),
    tile("Up for", span(uptime ?? 0), `version ${version}, ${environment}`),
  ];
}

const rate = (value) => (value === null || value === undefined ? "–" : value < 10 ? value.toFixed(1) : Math.round(value));

const counts = (replicas) => Object.entries(replicas ?? {}).map(([name, n]) => `${name} ${n ?? "–"}`).join(", ");

const left = (seconds) => (seconds > 0 ? `in ${Math.ceil(seconds)} s` : "any moment");

/** A second has passed: countdowns go on between two answers of the service. */
export function tick(place) {
  for (const cell of place.querySelectorAll("[data-left]")) {
    cell.dataset.left = String(Math.max(0, Number(cell.dataset.left) - 1));
    cell.textContent = left(Number(cell.dataset.left));
  }
}

function reasons({ fallback_reasons: found = {} }) {
  const rows = Object.entries(found).sort(([, a], [, b]) => b - a);
  if (!rows.length) return [h("h3", {}, "Fallbacks by reason"), h("p", { class: "hint" }, "None in the last minutes.")];
  return [table("Fallbacks by reason", ["Reason", "Answers"], rows.map(([code, n]) => [h("span", { title: code }, reasonWords(code)), String(n)]))];
}

function coverage({ coverage: found = [] }) {
  if (!found?.length) return [h("h3", {}, "Coverage"), h("p", { class: "hint" }, "No outcomes have been recorded yet: nothing is known about coverage.")];
  return [table("Coverage", ["Source", "Segment", "Target", "Covered", "Calibrated", "Outcomes", "Width"], found.map((one) => [
    one.source, one.segment, percent(one.target), percent(one.coverage, 1), percent(one.calibrated_coverage, 1), String(one.samples),
    one.mean_width === null || one.mean_width === undefined ? "–" : one.mean_width.toFixed(3),
  ]))];
}

function skillTable({ skill: found = [], sources = [] }) {
  if (!found?.length) return [h("h3", {}, "Skill"), h("p", { class: "hint" }, "No forecast of a model has come true yet: nothing is known about its skill.")];
  const signed = (value) => (value === null || value === undefined ? "–" : `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`);
  return [table("Skill of models against the baseline", ["Model", "Segment", "Skill", "Interval", "Forecasts", "Verdict"], found.map((one) => [
    one.model, one.segment, signed(one.skill), one.skill_low === null ? "–" : `${signed(one.skill_low)} to ${signed(one.skill_high)}`,
    String(one.forecasts), badge(one.verdict, one.routed ? "The baseline answers here where routing.mode is enforce." : null),
  ])), table("Sources", ["Source", "Advice", "Calibrated bands hold", "Forecasts"], sources.map((one) => [
    one.source, one.advice ? badge(one.advice, ADVICE[one.advice]) : "the baseline",
    h("span", { title: MISCOVERS[one.miscovers] ?? null }, `${percent(one.calibrated_coverage)}${one.miscovers ? `, ${one.miscovers} target` : ""}`),
    String(one.calibrated_forecasts),
  ]))];
}

function models({ models: known = [], breakers = [] }) {
  return [table("Models", ["Model", "Also called", "Breaker", "Next probe", "Takes", "Skill", "Licence", "Use"], known.map((one) => [
    one.name, (one.aliases ?? []).join(", ") || "–",
    ...(one.installed === false ? [badge("not_installed"), "–"] : breaker(breakers.find(({ model }) => model === one.runtime_name))),
    takes(one), h("span", { title: one.skill_source ?? null }, skill(one)), one.license ?? "–", badge(one.license_tag ?? ""),
  ]))];
}

const badge = (state, title = null) => h("span", { class: "state", "data-state": state, title }, state.replace("_", " "));

function breaker(found) {
  if (!found) return ["not called yet", "–"];
  const probe = found.next_probe_in_s > 0 ? h("span", { "data-left": found.next_probe_in_s.toFixed(1) }, left(found.next_probe_in_s)) : "–";
  return [badge(found.state, BREAKERS[found.state]), probe];
}

const TICKS = [ // a service that has just begun has less than a minute to show
  { dtickrange: [null, 59999], value: "%H:%M:%S" },
  { dtickrange: [60000, null], value: "%H:%M" },
];

export async function drawCharts(place, { history = [] }) {
  const Plotly = await plotly();
  const x = history.map(({ t }) => (typeof t === "number" ? new Date(1000 * t).toISOString() : t));
  const draw = (name, traces, axis) => {
    const shown = layout({ margin: { l: 58, r: 8, t: 6, b: 26 }, height: 150, xaxis: { type: "date", nticks: 4, tickformatstops: TICKS, hoverformat: "%H:%M:%S UTC" }, yaxis: { rangemode: "tozero", nticks: 4, ...axis }, dragmode: false });
    return Plotly.react(place.querySelector(`[data-trend=${name}]`), traces, shown, CONFIG);
  };
  const line = (name, hue, y, unit, more = {}) => ({ x, y, name, mode: "lines+markers", marker: { size: 3 }, line: { color: colour(hue), width: 1.8 }, hovertemplate: unit, ...more });
  const share = history.map(({ requests, fallbacks }) => (requests ? fallbacks / requests : null));
  await draw("latency", [
    line("p95", "base", history.map((one) => one.p95_ms), "%{y:.0f} ms"),
    line("p50", "accent", history.map((one) => one.p50_ms), "%{y:.0f} ms"),
  ], { ticksuffix: " ms" });
  const bars = { x, y: share, name: "fallbacks", type: "bar", marker: { color: colour("base", 0.7) }, hovertemplate: "%{y:.0%}" };
  await draw("fallback", [bars], { tickformat: ".0%", range: [0, 1.02] });
}
