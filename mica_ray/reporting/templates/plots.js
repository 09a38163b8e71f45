"use strict";
// Draws every figure of the page in the page's own colours, again when those change, and light on paper.
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const settings = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d"] };
  const font = "system-ui, sans-serif";

  function coloured(layout, isDark) {
    const ink = isDark ? "#e7e9ec" : "#1d2126";
    const grid = isDark ? "#3a414a" : "#dddddd";
    const ground = isDark ? "#14171b" : "#ffffff";
    const found = structuredClone(layout);
    delete found.template;
    Object.assign(found, { paper_bgcolor: ground, plot_bgcolor: ground });
    found.font = { ...found.font, color: ink, family: font };
    found.hoverlabel = { ...found.hoverlabel, bgcolor: ground, bordercolor: grid, font: { color: ink, family: font } };
    for (const axis of Object.keys(found).filter((key) => /^[xy]axis\d*$/.test(key))) {
      found[axis] = { automargin: true, ...found[axis], gridcolor: grid, zerolinecolor: grid, linecolor: grid };
    }
    return found;
  }

  const plots = [...document.querySelectorAll(".plot")].map((place) => {
    const { data, layout } = JSON.parse(place.querySelector("script").textContent);
    return { place, data, layout };
  });

  function draw(isDark) {
    for (const { place, data, layout } of plots) {
      Plotly.react(place, data, coloured(layout, isDark), settings);
    }
  }

  draw(dark.matches);
  dark.addEventListener("change", () => draw(dark.matches));
  addEventListener("beforeprint", () => draw(false));
  addEventListener("afterprint", () => draw(dark.matches));
})();
