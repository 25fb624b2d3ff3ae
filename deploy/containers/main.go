// Command containers reads compose files and Dockerfiles as Docker itself does, and
// prints what they mean as JSON. The tests of cmd/dstream check the result. It is a
// module of its own, so that a program that imports durablestream does not carry the
// libraries of Docker in its go.mod.
//
// Input and output are JSON on standard input and output: Question and Answer.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// Question is what to read.
type Question struct {
	Compose     []Compose `json:"compose"`
	Dockerfiles []string  `json:"dockerfiles"` // their text
}

// Compose is a compose file.
type Compose struct {
	Text string   `json:"text"`
	Env  []string `json:"env"` // KEY=VALUE
}

// Answer has an entry for each of a Question, in its order.
type Answer struct {
	Compose     []*types.Project `json:"compose"` // compose-go writes it as a compose file with all defaults
	Dockerfiles []Dockerfile     `json:"dockerfiles"`
}

// Dockerfile is what one means, and what its linter says.
type Dockerfile struct {
	Stages   []Stage  `json:"stages"`
	Warnings []string `json:"warnings"`
}

// Stage is one FROM and the instructions below it.
type Stage struct {
	Base     string    `json:"base"`
	Commands []Command `json:"commands"`
}

// Command is one instruction.
type Command struct {
	Kind    string   `json:"kind"` // as the Dockerfile has it: RUN, COPY
	Text    string   `json:"text"`
	User    string   `json:"user"`     // of USER
	CmdLine []string `json:"cmd_line"` // of ENTRYPOINT
	Shell   bool     `json:"shell"`    // of ENTRYPOINT: a shell runs CmdLine
}

func main() {
	if err := run(context.Background(), os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "containers:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, in io.Reader, out io.Writer) error {
	var q Question
	if err := json.NewDecoder(in).Decode(&q); err != nil {
		return fmt.Errorf("read the question: %w", err)
	}
	var a Answer
	for n, c := range q.Compose {
		p, err := compose(ctx, c)
		if err != nil {
			return fmt.Errorf("compose file %d: %w", n, err)
		}
		a.Compose = append(a.Compose, p)
	}
	for n, text := range q.Dockerfiles {
		d, err := dockerfile(text)
		if err != nil {
			return fmt.Errorf("dockerfile %d: %w", n, err)
		}
		a.Dockerfiles = append(a.Dockerfiles, d)
	}
	return json.NewEncoder(out).Encode(a)
}

// compose loads a file with the loader of `docker compose`.
func compose(ctx context.Context, c Compose) (*types.Project, error) {
	return loader.LoadWithContext(ctx, types.ConfigDetails{
		WorkingDir:  os.TempDir(),
		ConfigFiles: []types.ConfigFile{{Filename: "docker-compose.yml", Content: []byte(c.Text)}},
		Environment: types.NewMapping(c.Env),
	}, func(o *loader.Options) { o.SetProjectName("dstream", true) })
}

// dockerfile parses a file with the parser of `docker build`.
func dockerfile(text string) (Dockerfile, error) {
	ast, err := parser.Parse(strings.NewReader(text))
	if err != nil {
		return Dockerfile{}, err
	}
	var d Dockerfile
	warn := func(name, what, _, msg string, _ []parser.Range) {
		d.Warnings = append(d.Warnings, name+": "+what+": "+msg)
	}
	stages, _, err := instructions.Parse(ast.AST, linter.New(&linter.Config{Warn: warn}))
	if err != nil {
		return Dockerfile{}, err
	}
	for _, s := range stages {
		stage := Stage{Base: s.BaseName}
		for _, c := range s.Commands {
			stage.Commands = append(stage.Commands, command(c))
		}
		d.Stages = append(d.Stages, stage)
	}
	return d, nil
}

func command(c instructions.Command) Command {
	out := Command{Kind: strings.ToUpper(c.Name()), Text: fmt.Sprint(c)}
	switch c := c.(type) {
	case *instructions.UserCommand:
		out.User = c.User
	case *instructions.EntrypointCommand:
		out.CmdLine, out.Shell = c.CmdLine, c.PrependShell
	}
	return out
}
