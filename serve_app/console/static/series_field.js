// The series of the form: a sample, a file, one market of a file, or what is typed.

import { byId, h } from "./dom.js";
import { describeSeries } from "./form.js";
import { SAMPLES, sampleSource, sampleText } from "./samples.js";
import { marketsIn, MOST_VALUES } from "./series.js";
import { FIRST_SAMPLE, readState } from "./state.js";

const MOST_BYTES = 5e6; // reading, splitting and showing more would stop the page for seconds

let boardTitle = ""; // of a market that was opened from the board

/** Wires the fields; a series that is complete is forecast at once, one that is being typed is not. */
export function startSeries({ forecast, seriesChanged, connect }) {
  const series = byId("series");
  let markets = [];
  let begun = false;

  function take(text, market = "", title = "") {
    series.value = text;
    byId("market").value = market;
    boardTitle = title;
    describeSeries();
    return forecast();
  }

  function takeSample(id) {
    offer([]);
    byId("sample").value = id;
    byId("sample-hint").textContent = sampleSource(id);
    if (id) take(sampleText(id, Date.now()));
  }

  function takeText(text, name = "This text") {
    leaveSample();
    if (text.length > MOST_BYTES) return refuse(name, text.length);
    offer(marketsIn(text));
    const [[market, own]] = markets;
    return take(own, market);
  }

  async function takeFile(file) {
    if (file.size > MOST_BYTES) return refuse(file.name, file.size);
    return takeText(await file.text(), file.name);
  }

  function refuse(name, bytes) {
    leaveSample();
    series.value = byId("market").value = "";
    describeSeries();
    seriesChanged("No series, so no forecast.");
    byId("series-error").textContent = `${name} has ${Math.round(bytes / 1e6)} MB; this page reads at most ${MOST_BYTES / 1e6} MB. `
      + `Keep fewer rows: a forecast uses one market, and at most its newest ${MOST_VALUES} values.`;
  }

  function leaveSample() {
    offer([]);
    byId("sample").value = byId("sample-hint").textContent = boardTitle = "";
  }

  function offer(found) {
    markets = found;
    byId("pick-field").hidden = markets.length < 2;
    byId("pick").replaceChildren(...markets.map(([id], i) => h("option", { value: String(i) }, id)));
    byId("pick-hint").textContent = `The file holds ${markets.length} markets; one is forecast at a time.`;
  }

  byId("sample").append(...SAMPLES.map(({ id, name }) => h("option", { value: id }, name)));
  byId("sample").addEventListener("change", ({ target }) => takeSample(target.value));
  byId("pick").addEventListener("change", ({ target }) => take(markets[target.value][1], markets[target.value][0]));
  byId("file").addEventListener("change", ({ target }) => {
    if (target.files[0]) takeFile(target.files[0]);
    target.value = "";
  });
  series.addEventListener("input", () => {
    leaveSample();
    if (marketsIn(series.value).length > 1) return takeText(series.value);
    describeSeries();
    return seriesChanged("The series has changed. Press Forecast.");
  });
  series.addEventListener("paste", (event) => {
    const text = event.clipboardData.getData("text/plain");
    if (text.length <= MOST_BYTES) return;
    event.preventDefault();
    takeText(text);
  });
  startDrop(series, ({ files: [file], text }) => (file ? takeFile(file) : takeText(text)));
  return {
    /** Shows what the address names, once, unless there is a series already. */
    begin() {
      if (!begun) begin({ takeSample, seriesChanged, forecast, connect });
      begun = true;
    },
    /** A market of the board; it is forecast at once, and not learned from: its watch does that. */
    takeMarket(text, market, title) {
      begun = true;
      leaveSample();
      take(text, market, title || market);
    },
  };
}

/** Whether the series was opened from the board. */
export const isFromBoard = () => boardTitle !== "";

/** Shows what the address names, else the first sample. */
function begin({ takeSample, seriesChanged, forecast, connect }) {
  const [sample, market] = [readState("sample"), readState("market")];
  byId("market").value ||= market;
  if (byId("series").value) { // a browser that restores what was typed
    describeSeries();
    return forecast();
  }
  const known = SAMPLES.some(({ id }) => id === sample);
  if (known || !market) return takeSample(known ? sample : FIRST_SAMPLE);
  seriesChanged(`Load the series of market ${market}, then press Forecast.`);
  return connect();
}

/** What the series is called over its chart. */
export function seriesTitle() {
  const { value, selectedOptions } = byId("sample");
  return value ? selectedOptions[0].textContent : boardTitle || byId("market").value.trim() || "Your series";
}

function startDrop(series, take) {
  for (const name of ["dragover", "dragleave", "drop"]) {
    series.addEventListener(name, (event) => {
      event.preventDefault();
      series.classList.toggle("dropping", name === "dragover");
    });
  }
  series.addEventListener("drop", ({ dataTransfer }) => take({ files: dataTransfer.files, text: dataTransfer.getData("text/plain") }));
}
