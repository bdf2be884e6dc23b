// The charting library: fetched when the first chart is drawn, and told the page's colours.

import { h } from "./dom.js";
import { colour } from "./theme.js";

// The library would put the styles of its maps into the page as it loads. The page's policy refuses
// them, with an error on the console; it does not try where an element of this id is there.
const MAP_STYLES = "9f215cf04c5486422605d13261cb87401f4e7763b6296af81e98efbc0130da53";

let loading = null;

/** The library; every caller waits for the same download. */
export function plotly() {
  loading ??= new Promise((resolve, reject) => {
    document.head.append(h("meta", { id: MAP_STYLES }));
    const script = document.createElement("script");
    script.src = document.getElementById("plotly").href;
    script.addEventListener("load", () => resolve(globalThis.Plotly));
    script.addEventListener("error", () => {
      loading = null; // the next chart tries again
      reject(new Error("The charts could not be loaded; the values are in the table below."));
    });
    document.head.append(script);
  });
  return loading;
}

export const CONFIG = { displayModeBar: false, responsive: true, showTips: false, doubleClick: "reset" };

const FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif";

/** What all charts have in common. */
export function layout(changes) {
  const axis = { gridcolor: colour("line"), zeroline: false, linecolor: colour("line"), tickcolor: colour("line") };
  return {
    paper_bgcolor: colour("card"),
    plot_bgcolor: colour("card"),
    font: { family: FONT, size: 12, color: colour("muted") },
    hovermode: "x unified",
    hoverlabel: { bgcolor: colour("card"), bordercolor: colour("line"), font: { color: colour("ink"), family: FONT } },
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    showlegend: false,
    ...changes,
    xaxis: { ...axis, showgrid: false, ...changes.xaxis },
    yaxis: { ...axis, ...changes.yaxis },
  };
}
