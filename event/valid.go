package event

import (
	"encoding/binary"
	"math/bits"
)

// valid reports whether b is one JSON value of at most depth levels of objects and
// arrays. With 10,000 levels its answer is that of encoding/json's Valid (FuzzValid holds
// the two together). Readers check every event, and this is three times as fast.
func valid(b []byte, depth int) bool {
	end, ok := value(b, skipSpace(b, 0), depth)
	return ok && skipSpace(b, end) == len(b)
}

// storedDepth is MaxDepth for stored events. Versions before that limit accepted the
// 10,000 levels of encoding/json in a value, and put the event's object around it.
const storedDepth = 10_001

// value checks the value that begins at b[i], and gives the index behind it. It may have
// as many levels of objects and arrays as are left.
func value(b []byte, i, left int) (end int, ok bool) {
	if i >= len(b) {
		return i, false
	}
	switch c := b[i]; {
	case c == '"':
		return text(b, i)
	case c == '{':
		return list(b, i, '}', left-1)
	case c == '[':
		return list(b, i, ']', left-1)
	case c == '-' || '0' <= c && c <= '9':
		return number(b, i)
	}
	for _, word := range [...]string{"true", "false", "null"} {
		if len(b)-i >= len(word) && string(b[i:i+len(word)]) == word {
			return i + len(word), true
		}
	}
	return i, false
}

// list checks an object or an array, which ends with closing; its members may have as
// many levels as are left.
func list(b []byte, i int, closing byte, left int) (end int, ok bool) {
	if left < 0 {
		return i, false
	}
	i = skipSpace(b, i+1)
	if i < len(b) && b[i] == closing {
		return i + 1, true
	}
	for {
		if closing == '}' {
			if i >= len(b) || b[i] != '"' {
				return i, false
			}
			if i, ok = text(b, i); !ok {
				return i, false
			}
			i = skipSpace(b, i)
			if i >= len(b) || b[i] != ':' {
				return i, false
			}
			i = skipSpace(b, i+1)
		}
		if i, ok = value(b, i, left); !ok {
			return i, false
		}
		i = skipSpace(b, i)
		switch {
		case i >= len(b):
			return i, false
		case b[i] == closing:
			return i + 1, true
		case b[i] != ',':
			return i, false
		}
		i = skipSpace(b, i+1)
	}
}

// text checks a string.
func text(b []byte, i int) (end int, ok bool) {
	for i++; ; i++ {
		i = special(b, i)
		if i >= len(b) {
			return i, false
		}
		switch b[i] {
		case '"':
			return i + 1, true
		case '\\':
			i++
		default:
			return i, false
		}
		if i >= len(b) {
			return i, false
		}
		switch b[i] {
		case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		case 'u':
			if i+4 >= len(b) {
				return i, false
			}
			for range 4 {
				i++
				if !isHex(b[i]) {
					return i, false
				}
			}
		default:
			return i, false
		}
	}
}

// special gives the index, from i on, of the first byte that a string cannot hold as
// it is: a quote, a backslash or a control character; len(b) where there is none. It
// looks at eight bytes at once. In found, the lowest mark is always right: a false one
// comes of a carry from a right one below it.
func special(b []byte, i int) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	for ; len(b)-i >= 8; i += 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		quote, backslash := w^('"'*ones), w^('\\'*ones)
		found := ((w-' '*ones)&^w | (quote-ones)&^quote | (backslash-ones)&^backslash) & tops
		if found != 0 {
			return i + bits.TrailingZeros64(found)/8
		}
	}
	for ; i < len(b); i++ {
		if c := b[i]; c < ' ' || c == '"' || c == '\\' {
			return i
		}
	}
	return i
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// number checks a number.
func number(b []byte, i int) (end int, ok bool) {
	if b[i] == '-' {
		i++
	}
	if i < len(b) && b[i] == '0' {
		i++
	} else if i, ok = digits(b, i); !ok {
		return i, false
	}
	if i < len(b) && b[i] == '.' {
		if i, ok = digits(b, i+1); !ok {
			return i, false
		}
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		return digits(b, i)
	}
	return i, true
}

// digits passes one digit or more.
func digits(b []byte, i int) (end int, ok bool) {
	from := i
	for i < len(b) && '0' <= b[i] && b[i] <= '9' {
		i++
	}
	return i, i > from
}
