package mirror

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash"
	"strconv"
	"strings"

	"durablestream/event"
)

const (
	lineHead = `{"seq":`
	chainKey = `,"chain":"`
	lineEnd  = `"}`
	chainLen = 2 * sha256.Size
	tailLen  = len(chainKey) + chainLen + len(lineEnd)

	// maxLine is longer than any line that can be written: a server accepts messages of
	// at most 64 MiB. It bounds the memory of a reader of a file without line ends.
	maxLine = 65 << 20
)

// chain is the hexadecimal chain of one line.
type chain [chainLen]byte

// origin stands before the first line of a Log.
var origin = chain([]byte(strings.Repeat("0", chainLen)))

// chainer computes chains without allocating.
type chainer struct {
	h    hash.Hash
	prev chain
	sum  [sha256.Size]byte
}

func newChainer() *chainer { return &chainer{h: sha256.New()} }

// next is the chain of the line whose bytes before chainKey are core, after a line
// with chain prev.
func (c *chainer) next(prev chain, core []byte) (out chain) {
	c.prev = prev // what the hash is given is on the heap
	c.h.Reset()
	c.h.Write(c.prev[:])
	c.h.Write(core)
	hex.Encode(out[:], c.h.Sum(c.sum[:0]))
	return out
}

// appendLine appends the line of the stored event whose body is given, and its
// end, and returns its chain. body is one JSON object without space around it.
func (c *chainer) appendLine(dst []byte, seq event.Sequence, body []byte, prev chain) ([]byte, chain) {
	start := len(dst)
	dst = append(dst, lineHead...)
	dst = strconv.AppendUint(dst, uint64(seq), 10)
	dst = append(dst, ',')
	dst = append(dst, body[1:len(body)-1]...)
	next := c.next(prev, dst[start:])
	dst = append(dst, chainKey...)
	dst = append(dst, next[:]...)
	dst = append(dst, lineEnd...)
	return append(dst, '\n'), next
}

// Line is one line of the mirror.
type Line struct {
	// File is the path of its file, Number its place in it, from 1.
	File   string
	Number int
	// Recorded is the event.
	Recorded event.Recorded
	// Body is the body of the message that the Log stores it as.
	Body []byte
	// Chain is the line's chain: 64 lower hexadecimal characters.
	Chain string

	first bool // the first line of all files
}

// parts is a split line.
type parts struct {
	seq   event.Sequence
	comma int // the index of the comma after seq, and
	end   int // of the one before "chain": the body lies between
	chain chain
}

// core is the part of a line over which the chain is computed.
func (p parts) core(line []byte) []byte { return line[:p.end] }

// body turns line, which it overwrites, back into the body from which the line was
// spliced.
func (p parts) body(line []byte) []byte {
	line[p.comma], line[p.end] = '{', '}'
	return line[p.comma : p.end+1]
}

var (
	errNoHead  = errors.New(`it does not begin with {"seq":N`)
	errNoChain = errors.New(`it does not end with ,"chain":"…"} and 64 lower-case hexadecimal characters`)
)

// split splits a line, without its end, at the places where it was spliced. It checks
// neither the bytes between nor the chain's value.
func split(line []byte) (parts, error) {
	var p parts
	if !bytes.HasPrefix(line, []byte(lineHead)) {
		return p, errNoHead
	}
	p.comma = len(lineHead)
	for p.comma < len(line) && line[p.comma] >= '0' && line[p.comma] <= '9' {
		p.comma++
	}
	digits := line[len(lineHead):p.comma]
	n, err := strconv.ParseUint(string(digits), 10, 64)
	if err != nil || digits[0] == '0' || p.comma == len(line) || line[p.comma] != ',' {
		return p, errNoHead
	}
	p.seq = event.Sequence(n)
	p.end = len(line) - tailLen
	if p.end <= p.comma || string(line[p.end:p.end+len(chainKey)]) != chainKey || !bytes.HasSuffix(line, []byte(lineEnd)) {
		return p, errNoChain
	}
	copy(p.chain[:], line[p.end+len(chainKey):])
	for _, c := range p.chain {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return p, errNoChain
		}
	}
	return p, nil
}

// isOriginal reports that the first line of the active file, which split does not
// take, is a line of the original module: an object without seq and chain. Where
// it is not even JSON, its bytes decide.
func isOriginal(line []byte) bool {
	line = bytes.TrimSpace(line)
	if !bytes.HasPrefix(line, []byte("{")) || bytes.HasPrefix(line, []byte(lineHead)) {
		return false
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(line, &members) != nil {
		return !bytes.Contains(line, []byte(chainKey)) && !isTornHead(line)
	}
	return members["seq"] == nil && members["chain"] == nil
}

// isTornHead reports that b can be the beginning of a line of ours, or pages of it
// that were never written.
func isTornHead(b []byte) bool {
	n := min(len(b), len(lineHead))
	return string(b[:n]) == lineHead[:n] || b[0] == 0
}
