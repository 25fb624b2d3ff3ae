package main

import (
	"bytes"
	goformat "go/format"
	"path"
	"regexp"
	"slices"
	"strings"
)

// A rewriter replaces one module path by another. The old path may be an ordinary word,
// so it is replaced only where it can be nothing else:
//   - alone in quotes on a line, as an import;
//   - before a slash and a folder of the repository, as in durablestream/event;
//   - before a slash that ends a Go string, which code puts before a folder;
//   - behind require, replace, module, go get, go install or go doc.
type rewriter struct {
	old, new string
	folders  map[string]bool // at the top of the repository
	within   *regexp.Regexp  // the old path, and the first folder behind it
	command  *regexp.Regexp
	alone    *regexp.Regexp
	word     *regexp.Regexp // the old path as a word of a go.mod
}

func newRewriter(old, to string, names []string) *rewriter {
	r := &rewriter{old: old, new: to, folders: map[string]bool{"...": true}}
	for _, name := range names {
		if first, _, ok := strings.Cut(name, "/"); ok {
			r.folders[first] = true
		}
	}
	// What is before the path must not belong to it, as in github.com/durablestream/event or in
	// /home/dev/durablestream/event.
	const before = `(^|[^A-Za-z0-9_.~/-])`
	quoted := regexp.QuoteMeta(old)
	r.within = regexp.MustCompile(before + quoted + `/([A-Za-z0-9_.-]*)`)
	r.command = regexp.MustCompile(`(\b(?:require|replace|module|go get|go install|go list -m|go doc)\s+)` + quoted + `(\s|@|\x60|$)`)
	r.alone = regexp.MustCompile(`(?m)^(\s*(?:import\s+)?(?:[\w.]+\s+)?")` + quoted + `("\s*(?://.*)?)$`)
	r.word = regexp.MustCompile(`(?m)(^|\s)` + quoted + `(/\S*)?(\s|$)`)
	return r
}

// file rewrites a file of the repository.
func (r *rewriter) file(name string, text []byte) ([]byte, error) {
	switch {
	case bytes.IndexByte(text, 0) >= 0:
		return text, nil // not a text
	case path.Base(name) == "go.mod":
		return r.word.ReplaceAll(text, []byte("${1}"+r.new+"${2}${3}")), nil
	case strings.HasSuffix(name, ".go"):
		return r.source(text)
	default:
		return r.prose(text), nil
	}
}

// source rewrites a Go file, and sorts its imports if they were sorted.
func (r *rewriter) source(text []byte) ([]byte, error) {
	is := r.prose(text)
	is = bytes.ReplaceAll(is, []byte(`"`+r.old+`/"`), []byte(`"`+r.new+`/"`))
	if bytes.Equal(is, text) {
		return text, nil
	}
	was, err := goformat.Source(text)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(was, text) {
		return is, nil // it was not formatted before
	}
	return goformat.Source(is)
}

// prose rewrites any text.
func (r *rewriter) prose(text []byte) []byte {
	text = r.within.ReplaceAllFunc(text, func(found []byte) []byte {
		m := r.within.FindSubmatch(found)
		if !r.folders[string(bytes.TrimRight(m[2], "."))] && !r.folders[string(m[2])] {
			return found
		}
		return slices.Concat(m[1], []byte(r.new), []byte("/"), m[2])
	})
	text = r.alone.ReplaceAll(text, []byte("${1}"+r.new+"${2}"))
	return r.command.ReplaceAll(text, []byte("${1}"+r.new+"${2}"))
}
