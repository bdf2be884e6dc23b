// Taking results along: a picture, a CSV, and the command that asks for the same again.

import { plotly } from "./plot.js";
import { timesAfter } from "./fan.js";
import { token } from "./api.js";

/** The request as a command; the token stays out of it. */
export function curlOf(request) {
  const url = new URL("tsfm/forecast", document.baseURI).href;
  const secret = token.get() ? ` \\\n  -H "authorization: Bearer $TOKEN"` : "";
  const body = JSON.stringify(request).replaceAll("'", "'\\''");
  return `curl -s '${url.replaceAll("'", "%27")}' \\\n  -H 'content-type: application/json'${secret} \\\n  -d '${body}'`;
}

/** A row for each step of the horizon. */
export function csvOf({ as_of_ts: asOf, freq, horizon_steps: steps }, columns) {
  const rows = timesAfter(asOf, freq, steps).map((time, i) => [time, ...columns.map(({ path }) => path[i])]);
  return [["time", ...columns.map(({ name }) => `"${name.replaceAll('"', "'")}"`)], ...rows].map((row) => row.join(",")).join("\n") + "\n";
}

export function save(name, text, type) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  download(url, name);
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

function download(url, name) {
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
}

/** The chart as it is on the page, with a title and a legend. */
export async function savePng(chart, title, name) {
  const Plotly = await plotly();
  const layout = {
    ...chart.layout,
    title: { text: title.replaceAll("<", "&lt;"), font: { size: 16 } },
    margin: { l: 70, r: 24, t: 56, b: 40 },
    showlegend: true,
    legend: { orientation: "h" },
  };
  const picture = { format: "png", width: 1200, height: 600, scale: 2 };
  download(await Plotly.toImage({ data: chart.data, layout }, picture), name);
}

/** Whether the text of an element could be put on the clipboard. */
export async function copyText(element) {
  try {
    await navigator.clipboard.writeText(element.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(element);
    return false;
  }
}
