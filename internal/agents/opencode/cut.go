package opencode

import (
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"durablestream/event"
)

// cutMarker stands at the end of a string that was cut: how large it was, and its
// SHA-256, so that the whole can be told when it turns up elsewhere.
func cutMarker(size int, sum string) string {
	return fmt.Sprintf("…[cut: %d bytes in all, sha256 %s]", size, sum)
}

// shorten cuts the longest strings in a JSON value until it fits limit, and says how
// many it cut. A value that does not get small that way (a million short strings)
// is replaced by an object that says so. Objects and arrays below depth levels are
// replaced by a cut string.
func shorten(v json.RawMessage, limit, depth int) (json.RawMessage, int) {
	v, deep := cutDeep(v, depth)
	out, cuts := fit(v, limit)
	return out, cuts + deep
}

func fit(v json.RawMessage, limit int) (json.RawMessage, int) {
	if len(v) <= limit {
		return v, 0
	}
	for most := limit / 2; most >= 256; most /= 2 {
		if out, n := cutStrings(v, most); len(out) <= limit {
			return out, n
		}
	}
	head := v[:min(len(v), limit/8)]
	for len(head) > 0 && !utf8.Valid(head) {
		head = head[:len(head)-1]
	}
	return marshal(struct {
		Cut    bool   `json:"cut"`
		Size   int    `json:"size"`
		SHA256 string `json:"sha256"`
		Head   string `json:"head"`
	}{true, len(v), digest(v), string(head)}), 1
}

// cutDeep replaces each object and array of v that has depth others around it.
func cutDeep(v json.RawMessage, depth int) (out json.RawMessage, n int) {
	from, level := 0, 0
	for i := 0; i < len(v); i++ {
		switch v[i] {
		case '"':
			i = event.StringEnd(v, i) - 1
		case '{', '[':
			if level++; level == depth+1 {
				out = append(out, v[from:i]...)
				from = i
			}
		case '}', ']':
			if level--; level == depth {
				whole := v[from : i+1]
				out = append(out, marshal(cutMarker(len(whole), digest(whole)))...)
				from, n = i+1, n+1
			}
		}
	}
	if n == 0 {
		return v, 0
	}
	return append(out, v[from:]...), n
}

// cutStrings cuts each string of v (not the names of members) that is longer than
// most bytes as it is written.
func cutStrings(v json.RawMessage, most int) (out json.RawMessage, n int) {
	from := 0
	for i := 0; i < len(v); {
		if v[i] != '"' {
			i++
			continue
		}
		end := event.StringEnd(v, i)
		if end-i > most && !isName(v, end) {
			var s string
			if json.Unmarshal(v[i:end], &s) == nil {
				out = append(out, v[from:i]...)
				out = append(out, marshal(prefixOf(s, most/2)+cutMarker(len(s), digest([]byte(s))))...)
				from, n = end, n+1
			}
		}
		i = end
	}
	return append(out, v[from:]...), n
}

// prefixOf is a prefix of s that ends between characters, and that has at most size
// bytes, and twice that as JSON.
func prefixOf(s string, size int) string {
	for n := min(len(s), size); n > 0; n /= 2 {
		for n > 0 && n < len(s) && !utf8.RuneStart(s[n]) {
			n--
		}
		if len(marshal(s[:n])) <= 2*size+2 {
			return s[:n]
		}
	}
	return ""
}

// isName reports whether the string before v[i] names a member.
func isName(v []byte, i int) bool {
	for i < len(v) && (v[i] == ' ' || v[i] == '\t' || v[i] == '\n' || v[i] == '\r') {
		i++
	}
	return i < len(v) && v[i] == ':'
}
