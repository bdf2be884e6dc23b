// The fan chart: history, the bands of the answer, its calibrated ones dashed, the baseline's dotted.
// Prices are drawn times 100: in % or in cents of a dollar.

import { colour } from "./theme.js";
import { CONFIG, layout, plotly } from "./plot.js";

const STEP_MS = { m: 60000, h: 3600000, d: 86400000 };
export const stepMs = (freq) => Number(freq.slice(0, -1)) * STEP_MS[freq.at(-1)];

/** The times of a path of `steps` values after `asOf`, as ISO texts. */
export function timesAfter(asOf, freq, steps) {
  const begin = Date.parse(asOf);
  return Array.from({ length: steps }, (_, i) => new Date(begin + (i + 1) * stepMs(freq)).toISOString());
}

/** The path of a level; the service may write a level in other digits than this browser. */
export const pathOf = (paths, level) => paths[Object.keys(paths).find((key) => Number(key) === level)];

/** The name of a level: 0.9 is P90. */
export const levelName = (level) => `P${Number((100 * level).toFixed(4))}`;

export const lastPrice = (request) => request.y.findLast((value) => value !== null);

/** `{x, y}` of what was sent; regular steps up to `as_of_ts` where no times were. */
function historyOf(request, answer) {
  const end = Date.parse(answer.as_of_ts);
  const step = stepMs(answer.freq);
  const x = request.y_ts ?? request.y.map((_, i) => new Date(end - (request.y.length - 1 - i) * step).toISOString());
  return { x, y: request.y };
}

/** Every trace of the chart, in the order in which a tooltip lists them; `shown` is `{request, main, overlay}`. */
function traces({ request, main, overlay }, hue, hovertemplate) {
  const history = historyOf(request, main.body);
  const steps = ({ as_of_ts: asOf, freq, horizon_steps: n }) => timesAfter(asOf, freq, n);
  const joined = (body, path) => ({ x: [history.x.at(-1), ...steps(body)], y: [lastPrice(request), ...path] });
  const line = (name, { x, y }, style) => ({ name, x, y: y.map(scaled), mode: "lines", line: style, hovertemplate });
  const fan = (body, prefix, style) => [...body.quantiles].reverse().map((level) =>
    line(prefix + levelName(level), joined(body, pathOf(body.yhat_q, level)), style(level)));
  const calibrated = main.body.yhat_q_conformal;
  return [
    ...areas(main.body, joined, hue),
    line("Price", history, { color: colour("ink"), width: 1.6 }),
    ...fan(main.body, "", (level) => ({ color: colour(hue, isMiddle(main.body, level) ? 1 : 0.45), width: isMiddle(main.body, level) ? 2.2 : 1 })),
    ...(calibrated ? outer(main.body).map((level) => line(`Calibrated ${levelName(level)}`, { x: steps(main.body), y: pathOf(calibrated, level) },
      { color: colour("calibrated"), width: 1.6, dash: "dash" })) : []),
    ...(overlay ? fan(overlay.body, "Baseline ", () => ({ color: colour("base"), width: 1.6, dash: "dot" })) : []),
  ];
}

const scaled = (value) => (value === null ? null : 100 * value);
const outer = ({ quantiles }) => (quantiles.length > 1 ? [quantiles.at(-1), quantiles[0]] : quantiles);
const isMiddle = ({ quantiles }, level) => quantiles.length % 2 === 1 && level === quantiles[quantiles.length >> 1];

/** The coloured areas between the levels, the widest first. */
function areas(body, joined, hue) {
  const { quantiles: levels, yhat_q: paths } = body;
  return levels.slice(0, levels.length >> 1).map((level, i) => {
    const [low, high] = [level, levels.at(-1 - i)].map((one) => joined(body, pathOf(paths, one)));
    return {
      name: "area", x: [...high.x, ...low.x.slice().reverse()], y: [...high.y, ...low.y.slice().reverse()].map(scaled),
      mode: "lines", line: { width: 0 }, fill: "toself", fillcolor: colour(hue, 0.2), hoverinfo: "skip", showlegend: false,
    };
  });
}

/** What part of time and of price the chart shows with the last `steps` of the history. */
function view({ request, main, overlay }, steps) {
  const { as_of_ts: asOf, horizon_steps: ahead, freq } = main.body;
  const history = historyOf(request, main.body);
  const [oldest, end] = [Date.parse(history.x[0]), Date.parse(asOf)];
  const begin = Math.max(oldest, end - steps * stepMs(freq));
  const seen = history.y.filter((value, i) => value !== null && Date.parse(history.x[i]) >= begin);
  const paths = [main.body.yhat_q, main.body.yhat_q_conformal, overlay?.body.yhat_q];
  const time = [begin, end + ahead * stepMs(freq)].map((at) => new Date(at).toISOString());
  return { time, price: room([...seen, ...paths.flatMap((one) => Object.values(one ?? {}).flat())]) };
}

/** From the least to the greatest value with a margin, in hundredths, never outside 0 to 100. */
function room(values) {
  const [low, high] = values.reduce(([a, b], value) => [Math.min(a, value), Math.max(b, value)], [1, 0]);
  const margin = Math.max(0.08 * (high - low), 0.002);
  return [Math.max(0, low - margin), Math.min(1, high + margin)].map(scaled);
}

/** As many decimals as tell values in that range apart. */
export const decimals = ([low, high]) => (high - low >= 5 ? 1 : high - low >= 0.5 ? 2 : 3);

const TICKS = [[null, 0.0099, 3], [0.0099, 0.099, 2], [0.099, 0.99, 1], [0.99, null, 0]]
  .map(([from, to, digits]) => ({ dtickrange: [from, to], value: `.${digits}f` }));

/** Draws the chart; `newPlot` and not `react`, which would keep the range of an earlier chart for a double click. */
export async function drawFan(place, shown, { hue, steps, unit }) {
  const Plotly = await plotly();
  const { time, price } = view(shown, steps);
  const { as_of_ts: asOf, freq } = shown.main.body;
  const stepPx = ((place.clientWidth - 70) * stepMs(freq)) / (Date.parse(time[1]) - Date.parse(time[0]));
  const shape = { type: "line", x0: asOf, x1: asOf, yref: "paper", y0: 0, y1: 1, line: { color: colour("muted"), width: 1, dash: "dot" } };
  await Plotly.newPlot(place, traces(shown, hue, `%{y:.${decimals(price)}f} ${unit}`), layout({
    margin: { l: 64, r: 12, t: 8, b: 40 },
    hoverdistance: Math.max(3, 0.6 * stepPx), // not the values of the next step
    xaxis: { type: "date", range: time, hoverformat: "%d %b %H:%M UTC", nticks: place.clientWidth < 500 ? 4 : 8, tickangle: 0 },
    yaxis: { range: price, minallowed: 0, maxallowed: 100, ticksuffix: ` ${unit}`, tickformatstops: TICKS, nticks: 8 },
    shapes: [shape],
  }), CONFIG);
}
