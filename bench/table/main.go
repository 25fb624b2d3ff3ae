// Command table reads what the benchmarks of package bench print, makes the tables of
// docs/performance.md out of it, prints them, and with -write puts them into that file.
//
//	cd bench && go test -run '^$' -bench . -benchtime 1x . | go run ./table -write ../docs/performance.md
//
// With -some it makes no table, and passes on what it reads: for a run of some benchmarks.
//
// Its exit status is 1 where a benchmark failed, none was run, or a figure of the table is
// missing; a target that is not met is said in the table, and is no failure.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

func main() {
	write := flag.String("write", "", "file to put the tables into, between its marks")
	some := flag.Bool("some", false, "make no table: only pass on what is read, and tell whether it was a measurement")
	flag.Parse()
	var err error
	if *some {
		_, err = read(os.Stdin, os.Stdout)
	} else {
		err = run(os.Stdin, os.Stdout, os.Stderr, *write)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "table:", err)
		os.Exit(1)
	}
}

// The tables stand between these lines of the document.
const (
	begins = "<!-- make bench writes from here -->"
	ends   = "<!-- to here -->"
)

func run(in io.Reader, out, progress io.Writer, document string) error {
	f, err := read(in, progress)
	if err != nil {
		return err
	}
	text, err := f.tables()
	if err != nil {
		return err
	}
	fmt.Fprint(out, text)
	if document == "" {
		return nil
	}
	return put(document, machine(f)+"\n"+text)
}

// put replaces what stands between the marks.
func put(document, text string) error {
	old, err := os.ReadFile(document)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(old), begins)
	_, after, ok2 := strings.Cut(rest, ends)
	if !ok || !ok2 {
		return errors.New(document + " does not hold the lines " + begins + " and " + ends)
	}
	return os.WriteFile(document, []byte(before+begins+"\n\n"+text+"\n"+ends+after), 0o644)
}
