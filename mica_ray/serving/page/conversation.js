// What was said, kept in this tab's sessionStorage so that a reload loses nothing. No network here.

const PLACE = 'mica.conversation'

/**
 * A turn: {said, replies: [{model, lead, text, status, error}], taken, choice, state}.
 * status: 'streaming', 'done', 'stopped' or 'failed'; taken: index of the reply that the talk goes on with;
 * choice: 'left', 'right', 'tie' or null; state: one number per axis, null where the judge gave none, absent
 * where none was asked. session: {id, model, expires, axes, start} of the service that estimates, or null.
 */
export class Conversation {
  turns = []
  session = null

  static restored() {
    const conversation = new Conversation()
    try {
      const kept = JSON.parse(sessionStorage.getItem(PLACE) ?? '{}')
      Object.assign(conversation, { turns: kept.turns ?? [], session: kept.session ?? null })
    } catch {
      sessionStorage.removeItem(PLACE)
    }
    for (const reply of conversation.turns.flatMap((turn) => turn.replies)) {
      if (reply.status === 'streaming') Object.assign(reply, { status: 'stopped', error: 'Cut off by the reload.' })
    }
    return conversation
  }

  keep() {
    const { turns, session } = this
    try {
      sessionStorage.setItem(PLACE, JSON.stringify({ turns, session }))
    } catch {
      // The tab's storage is full: the talk goes on, and only a reload would lose its newest part.
    }
  }

  clear() {
    Object.assign(this, { turns: [], session: null })
    sessionStorage.removeItem(PLACE)
  }

  /** The messages up to and with what was said in `last`, as the models are sent them: help lines left out. */
  messages(last) {
    const upTo = this.turns.indexOf(last)
    return this.turns.slice(0, upTo + 1).flatMap((turn) => {
      const said = { role: 'user', content: turn.said }
      const text = turn === last ? '' : turn.replies[turn.taken]?.text
      return text ? [said, { role: 'assistant', content: text }] : [said]
    })
  }

  /** Whether the session, where there is one, knows all that was said before the last turn. */
  get isInSession() {
    const earlier = this.turns.slice(0, -1).filter((turn) => turn.replies.some((reply) => reply.text))
    return earlier.every((turn) => 'state' in turn)
  }

  /** The states from the first on; a turn whose judgement failed keeps the state before it. */
  get path() {
    if (!this.session) return []
    const path = [this.session.start]
    for (const turn of this.turns) {
      if ('state' in turn) path.push(turn.state ?? path.at(-1))
    }
    return path
  }
}
