// Runs before anything is drawn, so that a page in the chosen theme does not flash in the other.
try {
  const chosen = localStorage.getItem("tsfm-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // storage can be forbidden; the system's theme is used then
}
