// The fan chart: history, the bands of one answer, and its calibrated ones as dashed lines.

import { pathOf } from "./columns.js";
import { colour } from "./theme.js";
import { CONFIG, layout, plotly } from "./plot.js";

const STEP_MS = { m: 60000, h: 3600000, d: 86400000 };
export const stepMs = (freq) => Number(freq.slice(0, -1)) * STEP_MS[freq.at(-1)];

/** The times of a path of `steps` values after `asOf`, as ISO texts. */
export function timesAfter(asOf, freq, steps) {
  const begin = Date.parse(asOf);
  return Array.from({ length: steps }, (_, i) => new Date(begin + (i + 1) * stepMs(freq)).toISOString());
}

/** `{x, y}` of what was sent; regular steps up to `as_of_ts` where no times were. */
export function historyOf(request, answer) {
  const end = Date.parse(answer.as_of_ts);
  const step = stepMs(answer.freq);
  const x = request.y_ts ?? request.y.map((_, i) => new Date(end - (request.y.length - 1 - i) * step).toISOString());
  return { x, y: request.y };
}

const label = (level) => `${Number((100 * level).toFixed(4))} %`;

/** Every trace of a chart, the widest band first. */
export function traces(request, answer, hue) {
  const history = historyOf(request, answer);
  const join = { x: history.x.at(-1), y: history.y.findLast((value) => value !== null) };
  const x = timesAfter(answer.as_of_ts, answer.freq, answer.horizon_steps);
  const levels = answer.quantiles;
  const paths = levels.map((level) => pathOf(answer.yhat_q, level));
  const fan = { x: [join.x, ...x], join: join.y, levels, paths };
  return [
    ...bands(fan, hue),
    ...middle(fan, hue),
    ...calibrated(answer, x, levels),
    { x: history.x, y: history.y, mode: "lines", name: "history", line: { color: colour("ink"), width: 1.6 }, hovertemplate: "%{y:.4f}" },
  ];
}

function bands({ x, join, levels, paths }, hue) {
  const count = Math.floor(levels.length / 2);
  return Array.from({ length: count }, (_, i) => {
    const [low, high] = [i, levels.length - 1 - i];
    const line = { width: i === 0 ? 1 : 0, color: colour(hue, 0.55) };
    const side = (at) => ({ x, y: [join, ...paths[at]], mode: "lines", line, name: label(levels[at]), hovertemplate: "%{y:.4f}" });
    return [side(low), { ...side(high), fill: "tonexty", fillcolor: colour(hue, 0.2) }];
  }).flat();
}

function middle({ x, join, levels, paths }, hue) {
  if (levels.length % 2 === 0) return [];
  const at = (levels.length - 1) / 2;
  const line = { color: colour(hue), width: 2 };
  return [{ x, y: [join, ...paths[at]], mode: "lines", line, name: label(levels[at]), hovertemplate: "%{y:.4f}" }];
}

function calibrated(answer, x, levels) {
  if (!answer.yhat_q_conformal) return [];
  const ends = levels.length > 1 ? [0, levels.length - 1] : [0];
  const line = { color: colour("calibrated"), width: 1.6, dash: "dash" };
  return ends.map((at) => ({ x, y: pathOf(answer.yhat_q_conformal, levels[at]), mode: "lines", line, name: `${label(levels[at])} calibrated`, hovertemplate: "%{y:.4f}" }));
}

/** What part of time and of probability all charts show. */
export function view(request, answers, whole) {
  const [first] = answers;
  const history = historyOf(request, first);
  const end = Date.parse(first.as_of_ts);
  const ahead = first.horizon_steps * stepMs(first.freq);
  const oldest = Date.parse(history.x[0]);
  const begin = whole ? oldest : Math.max(oldest, end - Math.max(6 * ahead, 72 * stepMs(first.freq)));
  const seen = history.y.filter((value, i) => value !== null && Date.parse(history.x[i]) >= begin);
  const values = answers.flatMap((one) => [one.yhat_q, one.yhat_q_conformal].flatMap((paths) => Object.values(paths ?? {}).flat()));
  return { x: [begin, end + ahead].map((at) => new Date(at).toISOString()), y: room([...seen, ...values]) };
}

function room(values) {
  const [low, high] = values.reduce(([a, b], value) => [Math.min(a, value), Math.max(b, value)], [1, 0]);
  const pad = Math.max(0.08 * (high - low), 0.01);
  return [Math.max(-0.005, low - pad), Math.min(1.005, high + pad)];
}

function stepPx(place, freq, range) {
  const [begin, end] = range.x.map((time) => Date.parse(time));
  return ((place.clientWidth - 56) * stepMs(freq)) / (end - begin);
}

export async function drawFan(place, request, answer, hue, range) {
  const Plotly = await plotly();
  const shown = layout({
    margin: { l: 46, r: 10, t: 8, b: 36 },
    height: 320,
    hoverdistance: Math.max(3, 0.6 * stepPx(place, answer.freq, range)), // the next step has no say
    xaxis: { type: "date", range: range.x, hoverformat: "%d %b %H:%M UTC", nticks: 5, tickangle: 0 },
    yaxis: { range: range.y, tickformat: ".2f", nticks: 7 },
    shapes: [{ type: "line", x0: answer.as_of_ts, x1: answer.as_of_ts, yref: "paper", y0: 0, y1: 1, line: { color: colour("line"), width: 1, dash: "dot" } }],
  });
  await Plotly.react(place, traces(request, answer, hue), shown, CONFIG);
}
