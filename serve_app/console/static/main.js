// The console: starts the parts and lets them know of each other.

import { call, token } from "./api.js";
import { readDefaults, readModels } from "./defaults.js";
import { byId, h } from "./dom.js";
import { clearErrors, describeSeries, fillModels, readRequest, showError } from "./form.js";
import { redraw, show, startTools } from "./result.js";
import { SAMPLES, sampleSource, sampleText } from "./samples.js";
import { startStatus } from "./status.js";
import { startTheme } from "./theme.js";
import { openTokens, startTokens } from "./tokens.js";

let defaults = null;
let asked = 0;

async function connect() {
  try {
    const [found, models] = await Promise.all([readDefaults(), readModels()]);
    if (!defaults) fill(found);
    defaults = found;
    fillModels(models, found.model);
    byId("form-error").textContent = "";
  } catch (error) {
    refused(error);
  }
}

function fill(found) {
  const start = { horizon: found.horizon, levels: found.levels.join(", "), freq: found.freq };
  for (const [id, value] of Object.entries(start)) byId(id).value ||= value;
  byId("max-gap").placeholder = String(found.maxGapMinutes);
  byId("baseline").disabled = found.baselineBucket === null;
}

function refused(error) {
  if (error.status === 401 || (error.status === 403 && error.code === "insufficient_scope")) openTokens(error.message);
  else showError(error);
}

async function forecast() {
  const turn = (asked += 1);
  clearErrors();
  if (!defaults) await connect();
  const request = readRequest(Date.now());
  busy(true);
  try {
    const [main, baseline] = await Promise.all([ask(request), compared(request)]);
    if (turn === asked) await show(request, main, baseline);
  } catch (error) {
    if (turn === asked) said(error);
  } finally {
    if (turn === asked) busy(false);
  }
}

const ask = (request) => call("tsfm/forecast", {
  method: "POST", body: JSON.stringify(request), headers: { "content-type": "application/json" },
});

/** The baseline's bands for the same series: a bucket that only it serves is how one asks for them. */
async function compared(request) {
  if (!byId("baseline").checked || !defaults?.baselineBucket) return null;
  return ask({ ...request, liquidity_bucket: defaults.baselineBucket, observe: false }).catch(() => null);
}

function said(error) {
  if (error.status === undefined) { // a chart, not the service
    byId("announce").textContent = error.message;
    return;
  }
  refused(error);
  if (!byId("why").hidden) byId("announce").textContent = "Not forecast. What is shown is the forecast before.";
  if (error.status === 0) status.refresh();
}

function busy(yes) {
  byId("result").setAttribute("aria-busy", String(yes));
  byId("go").textContent = yes ? "Forecasting" : "Forecast";
}

function startForm() {
  const series = byId("series");
  const take = (text) => {
    series.value = text;
    describeSeries();
  };
  const leaveSample = () => {
    byId("sample").value = byId("sample-hint").textContent = "";
  };
  const own = (text) => {
    leaveSample();
    take(text);
  };
  byId("form").addEventListener("submit", (event) => {
    event.preventDefault();
    forecast();
  });
  byId("form").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault(); // a text field would submit the form as well
    forecast();
  });
  series.addEventListener("input", () => {
    leaveSample();
    describeSeries();
  });
  byId("sample").append(...SAMPLES.map(({ id, name }) => h("option", { value: id }, name)));
  byId("sample").addEventListener("change", (event) => {
    byId("sample-hint").textContent = sampleSource(event.target.value);
    if (event.target.value) take(sampleText(event.target.value, Date.now()));
  });
  byId("file").addEventListener("change", async (event) => {
    const [file] = event.target.files;
    if (file) own(await file.text());
    event.target.value = "";
  });
  startDrop(series, own);
  if (series.value) describeSeries(); // a browser that restores what was typed
}

function startDrop(series, take) {
  for (const name of ["dragover", "dragleave", "drop"]) {
    series.addEventListener(name, (event) => {
      event.preventDefault();
      series.classList.toggle("dropping", name === "dragover");
    });
  }
  series.addEventListener("drop", async (event) => {
    const [file] = event.dataTransfer.files;
    take(file ? await file.text() : event.dataTransfer.getData("text/plain"));
  });
}

startTheme(byId("theme"), () => {
  redraw();
  status.redraw();
});
startTokens(() => {
  connect();
  status.refresh();
});
startForm();
startTools();
const status = startStatus();
byId("token-open").hidden = false;
if (token.get()) byId("token-open").textContent = "Token set";
await connect();
