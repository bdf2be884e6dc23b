// Taking results along: a picture, a CSV, and the command that asks for the same again.

import { plotly } from "./plot.js";
import { timesAfter } from "./fan.js";
import { token } from "./api.js";
import { columnsOf } from "./columns.js";

/** The request as a command; the token stays out of it. */
export function curlOf(request) {
  const url = new URL("tsfm/forecast", document.baseURI).href;
  const secret = token.get() ? ` \\\n  -H "authorization: Bearer $TOKEN"` : "";
  const body = JSON.stringify(request).replaceAll("'", "'\\''");
  return `curl -s '${url.replaceAll("'", "%27")}' \\\n  -H 'content-type: application/json'${secret} \\\n  -d '${body}'`;
}

/** A row for each step of the horizon. */
export function csvOf({ answers }) {
  const [{ body }] = answers;
  const columns = answers.flatMap(columnsOf);
  const times = timesAfter(body.as_of_ts, body.freq, body.horizon_steps);
  const rows = times.map((time, i) => [time, ...columns.map(({ path }) => path[i])]);
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

const PICTURE = { width: 900, height: 480, scale: 2 };

/** All charts side by side in one picture; `charts` are `{chart, title}`. */
export async function savePng(charts, filename) {
  const pictures = await Promise.all(charts.map(pictureOf));
  const canvas = document.createElement("canvas");
  canvas.width = pictures.reduce((width, one) => width + one.width, 0);
  canvas.height = pictures[0].height;
  const brush = canvas.getContext("2d");
  pictures.forEach((one, i) => brush.drawImage(one, i * one.width, 0));
  download(canvas.toDataURL("image/png"), filename);
}

async function pictureOf({ chart, title }) {
  const Plotly = await plotly();
  const layout = { ...chart.layout, title: { text: title, font: { size: 16 } }, margin: { l: 60, r: 24, t: 56, b: 50 } };
  const picture = new Image();
  picture.src = await Plotly.toImage({ data: chart.data, layout }, { format: "png", ...PICTURE });
  await picture.decode();
  return picture;
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
