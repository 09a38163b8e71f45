"use strict";
// Draws every figure of the page in the page's colours, and again when they change. On paper: light, with a width
// that fits both A4 and Letter, or half of it for figures side by side.
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  // Only two buttons: each adds a stop to keyboard navigation.
  const settings = { responsive: true, displaylogo: false, modeBarButtons: [["toImage", "resetScale2d"]] };
  const font = "system-ui, sans-serif";
  const [paper, halfPaper] = [690, 335];

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

  function draw(isDark, isPaper = false) {
    for (const { place, data, layout } of plots) {
      const isHalf = place.closest(".panels")?.childElementCount > 1;
      const size = isPaper ? { width: isHalf ? halfPaper : paper } : { autosize: true };
      Plotly.react(place, data, { ...coloured(layout, isDark), ...size }, settings);
    }
  }

  draw(dark.matches);
  dark.addEventListener("change", () => draw(dark.matches));
  addEventListener("beforeprint", () => draw(false, true));
  addEventListener("afterprint", () => draw(dark.matches));
})();
