package main

import "testing"

func TestRewrite(t *testing.T) {
	t.Parallel()
	r := newRewriter("durablestream", "example.com/x/dstream", []string{"go.mod", "event/event.go", "cmd/dstream/main.go", "internal/wire/log.go"})
	for _, c := range []struct{ name, was, want string }{
		// Paths.
		{"a.go", "package a\n\nimport \"durablestream\"\n", "package a\n\nimport \"example.com/x/dstream\"\n"},
		{"a.go", "package a\n\nimport (\n\tds \"durablestream\" // the facade\n)\n", "package a\n\nimport (\n\tds \"example.com/x/dstream\" // the facade\n)\n"},
		{"a.go", "package a\n\nimport (\n\t\"a.org/b\"\n\t\"durablestream/event\"\n\t\"e.org/c\"\n)\n", "package a\n\nimport (\n\t\"a.org/b\"\n\t\"e.org/c\"\n\t\"example.com/x/dstream/event\"\n)\n"},
		{"a.go", "package a\n\nvar p = \"durablestream/\" + name\n", "package a\n\nvar p = \"example.com/x/dstream/\" + name\n"},
		{"a.go", "package a\n\n// go build -ldflags '-X durablestream/internal/engine.Pretend=2.99.0'\n", "package a\n\n// go build -ldflags '-X example.com/x/dstream/internal/engine.Pretend=2.99.0'\n"},
		{"go.mod", "module durablestream\n", "module example.com/x/dstream\n"},
		{"b/go.mod", "module durablestream/b\n\nrequire durablestream v0.0.0\n\nreplace durablestream => ../\n", "module example.com/x/dstream/b\n\nrequire example.com/x/dstream v0.0.0\n\nreplace example.com/x/dstream => ../\n"},
		{"a.md", "`go install durablestream/cmd/dstream@latest`, `go get durablestream@v1.0.0`, `go doc durablestream`, durablestream", "`go install example.com/x/dstream/cmd/dstream@latest`, `go get example.com/x/dstream@v1.0.0`, `go doc example.com/x/dstream`, durablestream"},
		{"a.md", "```\nrequire durablestream v0.0.0\nreplace durablestream => ../durable-stream\n```\n", "```\nrequire example.com/x/dstream v0.0.0\nreplace example.com/x/dstream => ../durable-stream\n```\n"},
		{"a.md", "Run go test durablestream/... or see durablestream/event.", "Run go test example.com/x/dstream/... or see example.com/x/dstream/event."},
		{"a.yml", "- run: go vet durablestream/event\n", "- run: go vet example.com/x/dstream/event\n"},

		// What is not the path: stored names, the package, other paths, words.
		{"a.go", "package durablestream\n\n// Package durablestream is a log.\nvar a, b = durablestream.Open, fmt.Errorf(\"durablestream: %w\", err)\n", ""},
		{"a.go", "package wire\n\nconst metaFormat = \"durablestream.format\"\n\nvar kinds = []string{\"durablestream\", \"durablestream.copy\"}\n", ""},
		{"a.md", "Metadata: `durablestream.format` = `1`; `durablestream.Open` of package durablestream, or durablestream/else.", ""},
		{"a.md", "https://example.org/durablestream/event, github.com/x/durablestream/event, /home/dev/durablestream/cmd, my-durablestream/event", ""},
		{"a.json", "{\"path\": \".opencode/durable_stream.jsonl\", \"package\": \"durable-stream\"}", ""},
		{"a.bin", "\x00durablestream/event", ""},
		{"go.mod", "module github.com/a/durablestream\n\nrequire durablestreams v1.0.0\n", ""},
	} {
		if c.want == "" {
			c.want = c.was
		}
		got, err := r.file(c.name, []byte(c.was))
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != c.want {
			t.Errorf("%s\n%s\nbecomes\n%s\ninstead of\n%s", c.name, c.was, got, c.want)
		}
	}
}

func TestValidPath(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"example.com/x/dstream", "github.com/some-one/durable_stream", "example.com/x/v2", "durablestream"} {
		if err := valid(path); err != nil {
			t.Error(err)
		}
	}
	for _, path := range []string{"", "/", "/a", "a/", "a//b", "https://example.com/x", "a b", "example.com/x@v1", "../x", "a/./b", "a/.git", "x.", "a'b", "a\nb"} {
		if valid(path) == nil {
			t.Errorf("%q is taken for a module path", path)
		}
	}
}
