// The console: starts the parts and lets them know of each other.

import { call, token } from "./api.js";
import { startBoard } from "./board.js";
import { readDefaults, readModels } from "./defaults.js";
import { byId } from "./dom.js";
import { stepMs } from "./fan.js";
import { clearErrors, fillModels, readRequest, showBreakers, showError } from "./form.js";
import { hide, isShown, redraw, show, startTools, wantsBaseline } from "./result.js";
import { isFromBoard, seriesTitle, startSeries } from "./series_field.js";
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
    const request = { ...readRequest(Date.now()), ...(isFromBoard() ? { observe: false } : {}) };
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

const VIEWS = { board: "to-board", console: "to-console", "status-view": "to-status" }; // and their links
const CONTENT = { board: "#cards", console: "#result", "status-view": "#status-body" };
const BY_HASH = { "#board": "board", "#cards": "board", "#status": "status-view", "#status-body": "status-view" };

/** The part of the page that the address names; a shared forecast has its settings in the address. */
function viewOfAddress() {
  if (location.hash === "" && location.search === "") return "board";
  return BY_HASH[location.hash] ?? "console";
}

/** Shows the part of the page that the address names. */
function showView() {
  const view = viewOfAddress();
  if (byId(view).hidden) scrollTo({ top: 0, behavior: "instant" });
  for (const [id, link] of Object.entries(VIEWS)) {
    byId(id).hidden = id !== view;
    if (id === view) byId(link).setAttribute("aria-current", "page");
    else byId(link).removeAttribute("aria-current");
  }
  byId("skip").href = CONTENT[view];
  if (view === "console") series.begin();
  if (view === "board") {
    if (location.search) history.replaceState(null, "", `${location.pathname}${location.hash}`);
    board.refresh();
  }
  redrawAll();
}

/** Opens a market of the board in the forecast view. */
function openMarket({ title, y, newest_steps: newest, answer }) {
  const end = Date.parse(answer.as_of_ts) + newest * stepMs(answer.freq);
  const times = y.map((_, i) => new Date(end - (y.length - 1 - i) * stepMs(answer.freq)).toISOString().replace(".000Z", "Z"));
  series.takeMarket(["time,value", ...y.map((price, i) => `${times[i]},${price ?? ""}`)].join("\n"), answer.market_id, title);
  location.hash = "#forecast";
}

function redrawAll() {
  if (!byId("console").hidden) redraw();
  if (!byId("status-view").hidden) status.redraw();
}

startTheme(byId("theme"), redrawAll);
startTokens(() => {
  defaults = null;
  if (byId("console").hidden) board.refresh();
  else forecast();
  status.refresh();
});
startForm();
startTools(askBaseline);
const status = startStatus(showBreakers);
const board = startBoard({ open: openMarket, refused: (error) => openTokens(error.message) });
const series = startSeries({ forecast, seriesChanged, connect: () => connect().catch(refused) });
addEventListener("popstate", showView); // also where more than the part after # changes
showView();
byId("token-open").hidden = false;
if (token.get()) byId("token-open").textContent = "Token set";
