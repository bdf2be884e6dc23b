// The console: starts the parts and lets them know of each other.

import { call, token } from "./api.js";
import { readDefaults, readModels } from "./defaults.js";
import { byId } from "./dom.js";
import { clearErrors, fillModels, readRequest, showBreakers, showError } from "./form.js";
import { hide, isShown, redraw, show, startTools, wantsBaseline } from "./result.js";
import { seriesTitle, startSeries } from "./series_field.js";
import { readState, writeState } from "./state.js";
import { startStatus } from "./status.js";
import { startTheme } from "./theme.js";
import { openTokens, startTokens } from "./tokens.js";

let defaults = null;
let asked = 0;
let drawnSeries = null; // the text of the series on the chart

async function connect() {
  const [found, models] = await Promise.all([readDefaults(), readModels()]);
  const start = { horizon: found.horizon, levels: found.levels.join(", "), freq: found.freq };
  for (const [id, value] of Object.entries(start)) byId(id).value ||= value;
  byId("max-gap").placeholder = String(found.maxGapMinutes);
  byId("baseline").disabled = found.baselineBucket === null;
  fillModels(models, found.model, readState("model"));
  defaults = found;
}

function refused(error) {
  if (error.status === 401 || (error.status === 403 && error.code === "insufficient_scope")) openTokens(error.message);
  else showError(error);
}

async function forecast() {
  const turn = (asked += 1);
  const series = byId("series").value;
  clearErrors();
  busy(true);
  try {
    if (!defaults) await connect();
    const title = seriesTitle();
    const request = readRequest(Date.now());
    const [main, baseline] = await Promise.all([ask(request), wantsBaseline() ? askBaseline(request) : null]);
    if (turn !== asked) return;
    drawnSeries = series;
    writeState(defaults);
    await show(title, request, main, baseline);
  } catch (error) {
    if (turn === asked) failed(error, series);
  } finally {
    if (turn === asked) busy(false);
  }
}

const ask = (request) => call("tsfm/forecast", {
  method: "POST", body: JSON.stringify(request), headers: { "content-type": "application/json" },
});

/** The baseline's bands for the same series: a bucket that only it serves is how one asks for them. */
async function askBaseline(request) {
  if (!defaults?.baselineBucket) return null;
  return ask({ ...request, liquidity_bucket: defaults.baselineBucket, observe: false }).catch(() => null);
}

function failed(error, series) {
  if (error.status === undefined) { // a chart, not the service
    byId("announce").textContent = error.message;
    return;
  }
  refused(error);
  if (series === drawnSeries && isShown()) byId("announce").textContent = "Not forecast. What is shown is the forecast before.";
  else hide(`No forecast. ${error.message}`);
  if (error.status === 0) status.refresh();
}

function busy(yes) {
  byId("result").setAttribute("aria-busy", String(yes));
  byId("go").textContent = yes ? "Forecasting" : "Forecast";
}

/** The series in the form is another one: neither errors nor a chart of the earlier one may stay. */
function seriesChanged(message) {
  asked += 1;
  busy(false);
  clearErrors();
  hide(message);
}

function startForm() {
  byId("form").addEventListener("submit", (event) => {
    event.preventDefault();
    forecast();
  });
  byId("form").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault(); // a text field would submit the form as well
    forecast();
  });
  for (const id of ["horizon", "levels"]) byId(id).value = readState(id);
}

/** Shows the part of the page that the address names. */
function showView() {
  const isStatus = location.hash === "#status";
  if (isStatus === byId("status-view").hidden) scrollTo({ top: 0, behavior: "instant" });
  byId("console").hidden = isStatus;
  byId("status-view").hidden = !isStatus;
  for (const [id, current] of [["to-console", !isStatus], ["to-status", isStatus]]) {
    if (current) byId(id).setAttribute("aria-current", "page");
    else byId(id).removeAttribute("aria-current");
  }
  redrawAll();
}

function redrawAll() {
  if (byId("status-view").hidden) redraw();
  else status.redraw();
}

startTheme(byId("theme"), redrawAll);
startTokens(() => {
  defaults = null;
  forecast();
  status.refresh();
});
startForm();
startTools(askBaseline);
const status = startStatus(showBreakers);
addEventListener("hashchange", showView);
showView();
byId("token-open").hidden = false;
if (token.get()) byId("token-open").textContent = "Token set";
startSeries({ forecast, seriesChanged, connect: () => connect().catch(refused) });
