// The estimated state over the turns: an SVG chart with one line per axis, and a table of the same numbers.

const WIDTH = 320
const HEIGHT = 190
const EDGE = { left: 30, right: 26, top: 12, bottom: 24 }
const SVG = 'http://www.w3.org/2000/svg'

/** Distance of a state: sqrt of the sum over axes of max(0, -1 - value)^2, as in mica_ray/rewards.py. */
export function distance(state) {
  return Math.hypot(...state.map((value) => Math.max(0, -1 - value)))
}

/** Draws a path of states; the first one is the state before any turn. */
export function chart(axes, path) {
  const low = Math.min(-2, ...path.flat())
  const high = Math.max(1, ...path.flat())
  const last = Math.max(1, path.length - 1)
  const x = (turn) => EDGE.left + (WIDTH - EDGE.left - EDGE.right) * (turn / last)
  const y = (value) => EDGE.top + (HEIGHT - EDGE.top - EDGE.bottom) * ((high - value) / (high - low))
  const svg = shape('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', 'aria-label': summary(axes, path) })
  svg.append(shape('rect', { class: 'met', x: EDGE.left, width: x(last) - EDGE.left, y: y(high), height: y(-1) - y(high) }))
  for (const value of ticks(low, high)) {
    svg.append(shape('line', { class: 'grid', x1: EDGE.left, x2: x(last), y1: y(value), y2: y(value) }))
    svg.append(label(String(value), { x: EDGE.left - 6, y: y(value) + 4, 'text-anchor': 'end' }))
  }
  svg.append(label('start', { x: x(0), y: HEIGHT - 6, 'text-anchor': 'start' }))
  if (path.length > 1) svg.append(label(`turn ${last}`, { x: x(last), y: HEIGHT - 6, 'text-anchor': 'end' }))
  const heights = spread(axes.map((_, axis) => y(path.at(-1)[axis]) + 4))
  axes.forEach((name, axis) => {
    const points = path.map((state, turn) => `${x(turn)},${y(state[axis])}`)
    svg.append(shape('polyline', { class: `line axis-${axis % 3}`, points: points.join(' ') }))
    svg.append(shape('circle', { class: `dot axis-${axis % 3}`, cx: x(path.length - 1), cy: y(path.at(-1)[axis]), r: 4 }))
    svg.append(label(name, { class: `axis-${axis % 3}`, x: x(path.length - 1) + 8, y: heights[axis] }))
  })
  return svg
}

/** Fills a table with the same numbers. */
export function fillTable(table, axes, path) {
  table.replaceChildren()
  const caption = table.createCaption()
  caption.className = 'unseen'
  caption.textContent = 'Estimated state by turn, in points'
  const head = table.createTHead().insertRow()
  for (const name of ['turn', ...axes, 'distance']) {
    const cell = document.createElement('th')
    cell.scope = 'col'
    cell.textContent = name
    head.append(cell)
  }
  const body = table.createTBody()
  path.forEach((state, turn) => {
    const row = body.insertRow()
    const first = document.createElement('th')
    first.scope = 'row'
    first.textContent = turn === 0 ? 'start' : String(turn)
    row.append(first)
    for (const value of [...state, distance(state)]) row.insertCell().textContent = formatted(value)
  })
}

export function formatted(value) {
  return (Math.round(value * 10) / 10).toString()
}

function summary(axes, path) {
  const now = axes.map((name, axis) => `${name} ${formatted(path.at(-1)[axis])}`).join(', ')
  return `After ${path.length - 1} turns: ${now}. Distance ${formatted(distance(path[0]))} at the start, ${formatted(distance(path.at(-1)))} now.`
}

function ticks(low, high) {
  const step = [1, 2, 5, 10, 20, 50].find((size) => (high - low) / size <= 6) ?? 100
  const found = []
  for (let value = Math.ceil(low / step) * step; value <= high; value += step) found.push(value)
  return found
}

/** Moves labels apart that would overlap. */
function spread(heights) {
  const order = heights.map((_, index) => index).sort((a, b) => heights[a] - heights[b])
  const moved = [...heights]
  for (let i = 1; i < order.length; i += 1) {
    moved[order[i]] = Math.max(moved[order[i]], moved[order[i - 1]] + 13)
  }
  return moved
}

function shape(name, attributes) {
  const made = document.createElementNS(SVG, name)
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value)
  return made
}

function label(text, attributes) {
  const made = shape('text', attributes)
  made.textContent = text
  return made
}
