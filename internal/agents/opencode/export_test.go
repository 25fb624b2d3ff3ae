package opencode

// Sessions is how many sessions are in memory.
func (t *Translator) Sessions() int { return len(t.sessions) }

// Texts is how many texts are in memory.
func (t *Translator) Texts() (n int) {
	for _, s := range t.sessions {
		n += len(s.texts)
	}
	return n
}

// CutDeep is cutDeep.
var CutDeep = cutDeep
