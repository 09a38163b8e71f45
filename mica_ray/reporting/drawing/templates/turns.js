"use strict";
// The dialogue viewer: list, search, and one dialogue drawn on demand. Text is inserted only as textContent.
(() => {
  const { entries, opened, axes } = JSON.parse(document.getElementById("content").textContent);
  const packed = JSON.parse(document.getElementById("packed").textContent);
  const [search, sort, found, list, place] = ["search", "sort", "found", "list", "dialogue"].map((id) =>
    document.getElementById(id));
  const MOST_LISTED = 200;
  const pieces = new Map();
  let texts = null;

  function make(tag, className, ...children) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  }

  function group(number) {
    if (!pieces.has(number)) {
      const bytes = Uint8Array.from(atob(packed[number]), (letter) => letter.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
      pieces.set(number, new Response(stream).json());
    }
    return pieces.get(number);
  }

  const signed = (value, digits = 2) =>
    value === null || value === undefined ? "–" : (value < 0 ? "−" : "+") + Math.abs(value).toFixed(digits);
  const level = (value) => (value ? signed(value, 0) : "0");
  const point = (value) => String(value).replace("-", "−");

  // The list.
  async function allTexts() {
    if (texts === null) {
      texts = new Map();
      for (let number = 0; number < packed.length; number += 1) {
        for (const one of await group(number)) {
          const said = one.turns.flatMap((turn) => [turn.user, turn.reply]);
          texts.set(one.id, [one.id, one.scenario, one.category, one.stop, ...said].join("\n").toLowerCase());
        }
      }
    }
    return texts;
  }

  const orders = {
    disagreement: (one) => -one.disagreement, flips: (one) => -one.flips, gain: (one) => -one.gain,
    loss: (one) => one.gain, turns: (one) => -one.turns, order: () => 0,
  };

  async function listed() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const known = words.length ? await allTexts() : null;
    const kept = entries.filter((one) => words.every((word) => known.get(one.id).includes(word)));
    const order = orders[sort.value];
    kept.sort((one, other) => order(one) - order(other));
    const more = kept.length > MOST_LISTED ? `, the first ${MOST_LISTED} listed` : "";
    const shown = [kept, entries].map((all) => all.length.toLocaleString("en"));
    found.textContent = `${shown.join(" of ")} dialogues${more}`;
    list.replaceChildren(...kept.slice(0, MOST_LISTED).map(listItem));
  }

  function listItem(one) {
    const link = make("a", "", `${one.id} ${one.scenario}`);
    link.href = `#dialogue-${one.id}`;
    const flips = one.flips ? `, ${one.flips} flip${one.flips > 1 ? "s" : ""}` : "";
    const note = `${one.stop}, ${one.turns} turns, disagreement ${one.disagreement.toFixed(2)}${flips}`;
    return make("li", "", link, make("div", "note", note));
  }

  // One dialogue.
  async function show(id) {
    const entry = entries.find((one) => one.id === id);
    if (!entry) return;
    const members = await group(entry.piece);
    const one = members.find((member) => member.id === id);
    const siblings = members.filter((member) => member.id !== id);
    const facts = `step ${entry.step}, ${one.category || "no category"}, ended by ${one.stop}, ` +
      `disagreement ${entry.disagreement.toFixed(2)}, ${entry.flips} flips, distance closed ${signed(entry.gain, 1)} points`;
    place.replaceChildren(
      make("h3", "", `Dialogue ${one.id}: ${one.scenario}`),
      make("p", "note", facts), one.error ? make("p", "", `The dialogue failed: ${one.error}`) : "",
      pathOf(one), ...one.turns.map((turn, number) => drawnTurn(one, turn, number, siblings)),
    );
    place.dataset.id = id;
  }

  function drawnTurn(one, turn, number, siblings) {
    const reply = make("p", "reply", turn.reply);
    const share = Math.round(Math.sqrt(Math.abs(turn.weight ?? 0)) * 60);
    const colour = turn.weight < 0 ? "--blame" : "--praise";
    reply.style.background = share ? `color-mix(in srgb, var(${colour}) ${share}%, transparent)` : "none";
    const tokens = turn.tokens ? `${turn.tokens} tokens, each of weight ${signed(turn.weight)}` : "no tokens trained on";
    const talk = make("div", "said",
      make("h4", "", `Turn ${turn.index + 1}`),
      turn.guidance ? make("p", "note", `Instruction to the simulated user: ${turn.guidance}`) : null,
      make("p", "user", turn.user), reply,
      make("p", "note", turn.reward === null ? "This turn does not count in the loss." : tokens),
      siblingsOf(turn, siblings));
    return make("section", "turn", talk, make("div", "credit", creditTable(turn), judged(one, turn, number)));
  }

  function creditTable(turn) {
    const rows = [["reward", turn.reward], ["return", turn.return], ["turn term", turn.turnTerm],
      ["group term", turn.groupTerm], ["mixed", turn.mica], ["GRPO", turn.grpo], ["trained on", turn.given]];
    const body = make("tbody", "", ...rows.map(([name, value]) => {
      const head = make("th", "", name);
      head.scope = "row";
      return make("tr", "", head, make("td", value < 0 ? "bad" : "", signed(value)));
    }));
    const flip = turn.mica * turn.grpo < 0
      ? make("p", "flip", turn.mica > 0 ? "flip: MICA positive, GRPO negative" : "flip: MICA negative, GRPO positive") : null;
    return make("div", "", make("table", "numbers", body), flip);
  }

  function judged(one, turn, number) {
    const [before, after] = [one.states[number], one.states[number + 1]];
    if (turn.progress === null) {
      return make("p", "note", `Not judged (${turn.status}${turn.judgeError ? `: ${turn.judgeError}` : ""}). The state is unchanged.`);
    }
    const body = make("tbody", "", ...axes.map(({ name }, axis) => {
      const head = make("th", "", name);
      head.scope = "row";
      return make("tr", "", head, make("td", "", `${point(before[axis])} → ${point(after[axis])}`),
        make("td", "", level(turn.progress[axis])), make("td", "", level(turn.regress[axis])));
    }));
    const heads = make("thead", "", make("tr", "", ...["axis", "state", "progress", "regress"].map((text) => {
      const head = make("th", "", text);
      head.scope = "col";
      return head;
    })));
    const table = make("table", "numbers", heads, body);
    const found = Object.entries(turn.evidence);
    if (!found.length) return table;
    const items = found.map(([key, text]) => make("li", "", make("b", "", key.replaceAll("_", " ")), `: ${text}`));
    return make("div", "", table, make("details", "", make("summary", "", "what the judge wrote"), make("ul", "", ...items)));
  }

  function siblingsOf(turn, siblings) {
    const there = siblings.flatMap((one) => one.turns.filter((other) => other.index === turn.index).map((other) => [one, other]));
    if (!there.length) return make("p", "note", "No sibling reached this turn.");
    const items = there.map(([one, other]) => {
      const link = make("a", "", one.id);
      link.href = `#dialogue-${one.id}`;
      const credit = `reward ${signed(other.reward)}, return ${signed(other.return)}, mixed ${signed(other.mica)}, GRPO ${signed(other.grpo)}`;
      return make("li", "", link, `: ${other.reply} `, make("span", "note", `(${credit})`));
    });
    return make("details", "", make("summary", "", `${there.length} sibling${there.length > 1 ? "s" : ""} at this turn`), make("ul", "", ...items));
  }

  // The state path: every axis and the distance, by turn.
  function pathOf(one) {
    // As wide as its container, so that its text is as large as the page's.
    const width = Math.min(640, Math.max(320, place.clientWidth));
    const [height, left, right, edge] = [190, 40, 70, 20];
    const values = [...one.states.flat(), ...one.distances, 0];
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const x = (turn) => left + (turn * (width - left - right)) / Math.max(1, one.states.length - 1);
    const y = (value) => edge + ((high - value) * (height - 2 * edge)) / Math.max(1e-9, high - low);
    const svg = (tag, attributes, text) => {
      const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
      if (text !== undefined) element.textContent = text;
      return element;
    };
    const chart = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "path", role: "img",
      "aria-label": "State on the three axes and remaining distance, by turn" });
    for (const value of [low, 0, high].filter((value, place, all) => all.indexOf(value) === place)) {
      chart.append(svg("line", { x1: left, x2: width - right, y1: y(value), y2: y(value), class: "rule" }),
        svg("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, point(Math.round(value * 10) / 10)));
    }
    one.states.forEach((_, turn) => chart.append(
      svg("text", { x: x(turn), y: height - 3, "text-anchor": "middle" }, turn === 0 ? "start" : turn)));
    const lines = [...axes.map(({ name, colour }, axis) => ({ name, colour, path: one.states.map((state) => state[axis]) })),
      { name: "distance", colour: "currentColor", path: one.distances }];
    // Names at the right end, shifted so that they do not overlap.
    let lowest = -Infinity;
    for (const line of lines.sort((one, other) => other.path.at(-1) - one.path.at(-1))) {
      const points = line.path.map((value, turn) => `${x(turn)},${y(value)}`).join(" ");
      lowest = Math.max(lowest + 13, y(line.path.at(-1)) + 4);
      chart.append(svg("polyline", { points, fill: "none", stroke: line.colour, "stroke-width": 2 }),
        svg("text", { x: width - right + 6, y: lowest, style: `fill: ${line.colour}`, class: "name" }, line.name));
    }
    return make("figure", "", chart, make("figcaption", "", "State on each axis in points (0: need met) and remaining distance to the goal, by turn."));
  }

  const wanted = () => (location.hash.startsWith("#dialogue-") ? location.hash.slice("#dialogue-".length) : null);
  addEventListener("hashchange", async () => {
    if (wanted()) {
      await show(wanted());
      place.scrollIntoView();
    }
  });
  let waiting;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(listed, 150);
  });
  sort.addEventListener("change", listed);
  listed();
  show(wanted() ?? opened);
})();
