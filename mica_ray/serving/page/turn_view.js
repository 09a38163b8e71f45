// One turn as elements. Text from people and models enters as text nodes only, never as markup.

/** Creates an element: `element('p', {className: 'x'}, 'text', child)`. */
export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties)
  made.append(...children)
  return made
}

/** Shows a turn and its replies; calls `onRetry`, `onChoice` and `isLast` with the turn. */
export class TurnView {
  constructor(turn, calls) {
    this.turn = turn
    this.calls = calls
    this.node = element('article', { className: 'turn' })
    this.draw()
  }

  /** Draws the turn again, after a change of status, a vote or a help line. */
  draw() {
    const { turn } = this
    const isPair = turn.replies.length === 2
    const help = turn.replies.find((reply) => reply.lead)?.lead
    this.texts = turn.replies.map((reply) => element('div', { className: 'text' }, reply.text))
    const replies = element('div', { className: isPair ? 'replies two' : 'replies' },
      ...turn.replies.map((reply, index) => this.#reply(reply, index, isPair)))
    const parts = [element('div', { className: 'said' }, element('span', { className: 'unseen' }, 'You: '), turn.said)]
    if (help) parts.push(lead(help))
    parts.push(replies)
    if (isPair && turn.replies.every((reply) => reply.status === 'done')) parts.push(this.#vote())
    this.node.replaceChildren(...parts)
    this.node.setAttribute('aria-busy', String(turn.replies.some((reply) => reply.status === 'streaming')))
  }

  /** Appends a piece to a reply without drawing the rest again. */
  add(index, text) {
    this.texts[index].append(text)
  }

  #reply(reply, index, isPair) {
    const node = element('div', { className: `reply ${reply.status}` })
    if (isPair) {
      const { choice, taken } = this.turn
      node.classList.toggle('taken', choice !== null && choice !== 'tie' && taken === index)
      const side = index === 0 ? 'Left' : 'Right'
      node.append(element('p', { className: 'who' }, choice === null ? side : `${side}: ${reply.model}`))
    } else {
      node.append(element('span', { className: 'unseen' }, 'The machine: '))
    }
    node.append(this.texts[index])
    if (reply.error) node.append(this.#note(reply))
    return node
  }

  #note(reply) {
    const note = element('p', { className: 'note' }, reply.error)
    if (!this.calls.isLast(this.turn)) return note
    const again = element('button', { type: 'button', className: 'quiet' }, 'Try again')
    again.addEventListener('click', () => this.calls.onRetry(this.turn, reply))
    note.append(again)
    return note
  }

  #vote() {
    const { turn } = this
    if (turn.choice !== null) {
      const thanks = { left: 'You preferred the left reply.', right: 'You preferred the right reply.', tie: 'You found both about the same.' }
      return element('div', { className: 'vote' }, element('p', {}, `${thanks[turn.choice]} ${turn.voteError ?? ''}`))
    }
    const bar = element('div', { className: 'vote', role: 'group' }, element('p', {}, 'Which reply is better?'))
    bar.setAttribute('aria-label', 'Which reply is better?')
    for (const [choice, label] of [['left', 'Left'], ['right', 'Right'], ['tie', 'About the same']]) {
      const button = element('button', { type: 'button', className: 'quiet' }, label)
      button.addEventListener('click', () => this.calls.onChoice(turn, choice))
      bar.append(button)
    }
    return bar
  }
}

function lead(text) {
  const node = element('div', { className: 'lead', role: 'note' }, element('strong', {}, 'Please read this first'), element('p', {}, text))
  node.setAttribute('aria-label', 'Help line')
  return node
}
