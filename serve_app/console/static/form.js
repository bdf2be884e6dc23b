// The form: what stands in it becomes a request, and what the service says of a field stands beside it.

import { byId, h } from "./dom.js";
import { MOST_VALUES, numberOr, readSeries, stepOf } from "./series.js";
import { BREAKERS, skill, takes } from "./words.js";

const text = (id) => byId(id).value.trim();

/** The request that the form stands for; fields that are empty are left to the service. */
export function readRequest(nowMs) {
  const { values, times } = readSeries(byId("series").value);
  const freq = text("freq");
  const asOf = text("as-of") || times?.at(-1) || new Date(Math.floor(nowMs / 60000) * 60000).toISOString().replace(".000Z", "Z");
  const body = { market_id: text("market") || (text("sample") ? `sample-${text("sample")}` : "console"), as_of_ts: asOf, y: values };
  if (times && !isRegular(times, freq)) body.y_ts = times;
  put(body, "freq", freq);
  put(body, "horizon_steps", numberOr(text("horizon")));
  const levels = text("levels").split(/[\s,;]+/).filter(Boolean).map(numberOr);
  if (levels.length) body.quantiles = levels;
  if (text("model")) body.model = { model_name: text("model") };
  if (text("space")) body.transform = { space: text("space") };
  put(body, "liquidity_bucket", text("liquidity"));
  put(body, "max_gap_minutes", numberOr(text("max-gap")));
  put(body, "deadline_ms", numberOr(text("deadline")));
  if (byId("conformal").checked) body.conformal = true;
  return body;
}

function put(body, name, value) {
  if (value !== "") body[name] = value;
}

/** Whether each time is one step after the one before, so that it need not be said. */
export function isRegular(times, freq) {
  if (stepOf(times) !== freq) return false;
  const ms = times.map((time) => Date.parse(time));
  return ms.every((at, i) => i === 0 || at - ms[i - 1] === ms[1] - ms[0]);
}

/** Says how the series is understood, and takes its step over. */
export function describeSeries() {
  const { values, times } = readSeries(byId("series").value);
  const step = stepOf(times);
  if (step) byId("freq").value = step;
  const missing = values.filter((one) => one === null).length;
  const parts = [`${values.length === MOST_VALUES ? "the newest " : ""}${values.length} ${values.length === 1 ? "value" : "values"}`];
  if (missing) parts.push(`${missing} missing`);
  if (times?.length) parts.push(`${shown(times[0])} to ${shown(times.at(-1))} UTC`);
  byId("series-hint").textContent = values.length ? parts.join(", ") : "Paste values, drop a CSV here, or pick a sample.";
}

const shown = (time) => time.replace("T", " ").replace(/:\d\dZ$/, "");

let models = [];
let breakers = []; // as the last report says

/** The models to choose from; `asked` is one that the address names. */
export function fillModels(found, usual, asked) {
  models = found;
  const select = byId("model");
  const before = select.value || asked || usual;
  const names = models.map(({ name, aliases }) => (aliases.includes(usual) ? usual : name));
  if (!names.includes(before)) names.push(before); // the service says what is wrong with it
  select.replaceChildren(...names.map((value) => h("option", { value })));
  select.value = before;
  select.onchange = describeModel; // one, however often the models are read
  describeModels();
}

/** Takes from a report which of the models are not called now. */
export function showBreakers(report) {
  breakers = report.breakers;
  describeModels();
}

function describeModels() {
  for (const option of byId("model").options) {
    const model = modelOf(option.value);
    const name = !model || model.name === option.value ? option.value : `${option.value} – ${model.name}`;
    option.textContent = model?.installed === false ? `${name}, not installed` : trouble(model) ? `${name}, not called now` : name;
  }
  describeModel();
}

function describeModel() {
  const model = modelOf(byId("model").value);
  const parts = model ? [trouble(model), model.note?.replace(/\.$/, ""), model.license, `Takes ${takes(model)}`, `Skill: ${skill(model)}`] : [];
  byId("model-hint").textContent = parts.filter(Boolean).map((part) => `${part}.`).join(" ");
}

const modelOf = (name) => models.find((one) => one.name === name || one.aliases.includes(name));

/** Why a model is not called, or null. */
function trouble(model) {
  if (model?.installed === false) return "The runtime does not have it installed, so the baseline answers";
  const breaker = breakers.find((one) => one.model === model?.runtime_name);
  return ["open", "half_open", "forced_open"].includes(breaker?.state) ? `Breaker ${BREAKERS[breaker.state]}` : null;
}

export function clearErrors() {
  for (const place of document.querySelectorAll("#form .error")) place.textContent = "";
  for (const input of document.querySelectorAll("#form [aria-invalid]")) input.removeAttribute("aria-invalid");
}

/** Puts the service's words beside the fields they are about; the rest below the button. */
export function showError(error) {
  const details = error.code === "unknown_model" || error.code === "model_not_allowed"
    ? [{ path: "model", message: error.message }]
    : error.detail;
  const placed = details.filter(placeDetail);
  if (placed.length) focusFirst();
  if (placed.length === details.length && placed.length) return;
  byId("form-error").textContent = error.requestId ? `${error.message} (request ${error.requestId})` : error.message;
}

function placeDetail({ path, message }) {
  const field = [...document.querySelectorAll("#form [data-paths]")]
    .find((one) => one.dataset.paths.split(" ").includes(path.split(".")[0]));
  if (!field) return false;
  const place = field.querySelector(".error");
  const said = path.includes(".") ? `${path}: ${message}` : message;
  place.textContent = place.textContent ? `${place.textContent} ${said}` : said;
  field.querySelector("textarea, select, input:not([type=file])").setAttribute("aria-invalid", "true");
  return true;
}

function focusFirst() {
  const first = document.querySelector("#form [aria-invalid]");
  first.closest("details")?.setAttribute("open", "");
  first.focus();
}
