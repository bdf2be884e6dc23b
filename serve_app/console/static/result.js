// The result: charts side by side, the same values as a table, and ways to take them along.

import { columnsOf, pathOf } from "./columns.js";
import { byId, h, table } from "./dom.js";
import { copyText, csvOf, curlOf, save, savePng } from "./export.js";
import { drawFan, timesAfter, view } from "./fan.js";
import { drawWhy, verdict } from "./why.js";

let shown = null; // {request, answers: [{title, hue, body}]} of what is on the page
let whole = false;

/** Shows the answer, and that of the baseline beside it where there is one. */
export async function show(request, main, baseline) {
  const fellBack = main.body.meta.runtime === "baseline";
  const answers = [{ title: titleOf(main.body.meta), hue: fellBack ? "base" : "accent", body: main.body }];
  if (baseline && !fellBack) answers.push({ title: "Baseline", hue: "base", body: baseline.body });
  shown = { request, answers };
  for (const id of ["tools", "values", "repeat", "why"]) byId(id).hidden = false;
  byId("curl").textContent = curlOf(request);
  byId("values-table").replaceChildren(valuesTable(answers));
  drawWhy(byId("why-body"), main);
  byId("announce").textContent = summary(main.body);
  if (byId("result").getBoundingClientRect().top > innerHeight / 2) byId("result").scrollIntoView(); // a phone
  await redraw();
}

/** Draws the charts again, in the present theme. */
export async function redraw() {
  if (!shown) return;
  const place = byId("charts");
  const { request, answers } = shown;
  if (place.childElementCount !== answers.length) place.replaceChildren(...answers.map(() => figure()));
  const range = view(request, answers.map((one) => one.body), whole);
  for (const [i, { title, hue, body }] of answers.entries()) {
    const [caption, chart] = place.children[i].children;
    caption.replaceChildren(...legend(title, hue, body));
    chart.setAttribute("aria-label", `${title}. ${summary(body)}`);
    await drawFan(chart, request, body, hue, range);
  }
}

export function startTools() {
  const stem = () => `forecast-${shown.request.market_id.replace(/[^\w.-]+/g, "_")}`;
  byId("csv").addEventListener("click", () => save(`${stem()}.csv`, csvOf(shown), "text/csv"));
  byId("png").addEventListener("click", () => savePng(
    [...document.querySelectorAll("#charts .chart")].map((chart, i) => ({ chart, title: shown.answers[i].title })),
    `${stem()}.png`,
  ));
  byId("zoom").addEventListener("click", async () => {
    whole = !whole;
    byId("zoom").setAttribute("aria-pressed", String(whole));
    await redraw();
  });
  byId("copy").addEventListener("click", async () => {
    byId("announce").textContent = (await copyText(byId("curl"))) ? "The command is copied." : "Select the command and copy it: this browser does not allow it.";
  });
}

const figure = () => h("figure", {}, h("figcaption"), h("div", { class: "chart", role: "img" }));

function titleOf(meta) {
  if (meta.runtime === "baseline") return "Baseline, in place of the model";
  return meta.cache_stale ? `${meta.model_name}, an earlier answer` : meta.model_name;
}

function legend(title, hue, body) {
  const outer = body.quantiles.length > 1 ? `${body.quantiles[0]} to ${body.quantiles.at(-1)}` : `${body.quantiles[0]}`;
  return [
    h("strong", {}, title),
    h("span", { class: `key ${hue}` }, outer),
    body.yhat_q_conformal && h("span", { class: "key calibrated" }, "calibrated"),
    h("span", {}, "UTC"),
  ].filter(Boolean);
}

/** The last step in a sentence, for those who do not see the chart. */
function summary(body) {
  const last = body.quantiles.map((level) => `${level}: ${pathOf(body.yhat_q, level).at(-1).toFixed(3)}`);
  return `${verdict(body.meta)} After ${body.horizon_steps} steps the levels are ${last.join(", ")}.`;
}

function valuesTable(answers) {
  const [first] = answers;
  const times = timesAfter(first.body.as_of_ts, first.body.freq, first.body.horizon_steps);
  const columns = answers.flatMap(columnsOf);
  return table("Values by step", ["Time, UTC", ...columns.map(({ name }) => name)],
    times.map((time, i) => [time.slice(0, 16).replace("T", " "), ...columns.map(({ path }) => path[i].toFixed(4))]));
}
