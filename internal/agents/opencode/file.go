package opencode

import (
	"slices"
	"strings"
	"time"

	"durablestream/event"
)

// edit is a file that OpenCode said it wrote, until the watcher says so too.
type edit struct {
	session string
	at      int64 // by OpenCode, Unix ms
}

func (t *Translator) file() (path string, ok bool) {
	var p struct {
		File string `json:"file"`
	}
	return p.File, read(t.bus.Properties, &p) && p.File != ""
}

// fileEdited gives the edit to the session whose call names the file; or, since only
// tools of OpenCode cause this event, to the only session that runs one.
func (t *Translator) fileEdited() bool {
	path, ok := t.file()
	if !ok {
		return false
	}
	c := t.caller(path, true)
	e := edit{at: t.at}
	if c != nil {
		e.session = c.session.id
	}
	if len(t.edits) >= keepEdits {
		clear(t.edits)
	}
	t.edits[path] = e
	t.changedFile(c)
	return true
}

// fileWatched is the same change once more, when it follows an edit; else somebody
// changed a file, and it is a session's only if its call names the file.
func (t *Translator) fileWatched() bool {
	path, ok := t.file()
	if !ok {
		return false
	}
	const soon = 5 * int64(time.Second/time.Millisecond)
	if e, ok := t.edits[path]; ok && t.at-e.at <= soon {
		delete(t.edits, path)
		t.plain(draft{typ: typeName(t.bus.Type), session: e.session, payload: t.bus.Properties})
		return true
	}
	t.changedFile(t.caller(path, false))
	return true
}

func (t *Translator) changedFile(c *call) {
	d := draft{typ: event.FilesChanged, payload: t.bus.Properties}
	if c != nil {
		d.session, d.actor, d.cause = c.session.id, c.session.actor(c.message), c.startID()
		if t.sessionOf(t.bus.Properties) == "" {
			d.payload = withField(t.bus.Properties, "sessionID", c.session.id)
		}
	}
	t.plain(d)
}

// caller finds the call that wrote a file; nil where none or more than one session
// could have.
func (t *Translator) caller(path string, ours bool) *call {
	var named, mentioned, all []*call
	for _, id := range sortedKeys(t.sessions) {
		s := t.sessions[id]
		for _, key := range sortedKeys(s.calls) {
			c := s.calls[key]
			if !c.started || c.done {
				continue
			}
			all = append(all, c)
			rel := strings.TrimPrefix(path, s.dir+"/")
			if slices.ContainsFunc(c.paths, func(p string) bool {
				return p == path || strings.HasSuffix(path, "/"+strings.TrimPrefix(p, "./"))
			}) {
				named = append(named, c)
			}
			if slices.ContainsFunc(c.scripts, func(x string) bool { return names(x, rel) }) {
				mentioned = append(mentioned, c)
			}
		}
	}
	switch {
	case len(named) > 0:
		return only(named)
	case len(mentioned) > 0:
		return only(mentioned)
	case ours:
		return only(all)
	}
	return nil
}

// only is the last call, if all are of one session.
func only(calls []*call) *call {
	for _, c := range calls {
		if c.session != calls[0].session {
			return nil
		}
	}
	if len(calls) == 0 {
		return nil
	}
	return calls[len(calls)-1]
}

// names reports whether a script holds path as a word of its own.
func names(script, path string) bool {
	for from := 0; path != ""; {
		i := strings.Index(script[from:], path)
		if i < 0 {
			return false
		}
		i += from
		end := i + len(path)
		if (i == 0 || !inName(script[i-1]) || script[i-1] == '/') && (end == len(script) || !inName(script[end])) {
			return true
		}
		from = i + 1
	}
	return false
}

func inName(c byte) bool { return strings.IndexByte("/._-", c) >= 0 || typeRune(rune(c)) != '_' }
