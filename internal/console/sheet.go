package console

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Sheet prints lines of a name and what is said of it, one below the other.
type Sheet struct {
	out   io.Writer
	width int // columns; 0: lines are not wrapped
	err   error
}

// nameWidth is the column in which the words begin.
const nameWidth = 11

// NewSheet wraps at the width of a terminal. What goes elsewhere is not wrapped, so
// that grep finds it.
func NewSheet(out io.Writer) *Sheet {
	s := &Sheet{out: out}
	if IsTerminal(out) {
		s.width = Width(out)
	}
	return s
}

// Line prints one name with its words.
func (s *Sheet) Line(name, format string, args ...any) {
	words := strings.Split(Plain(fmt.Sprintf(format, args...)), " ")
	line := fmt.Sprintf("%-*s", nameWidth-1, name)
	for n, w := range words {
		if n > 0 && s.width > 0 && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(w) > s.width {
			s.write(line)
			line = strings.Repeat(" ", nameWidth-1)
		}
		line += " " + w
	}
	s.write(line)
}

func (s *Sheet) write(line string) {
	if s.err == nil {
		_, s.err = fmt.Fprintln(s.out, strings.TrimRight(line, " "))
	}
}

// Err is the first error of printing.
func (s *Sheet) Err() error { return s.err }
