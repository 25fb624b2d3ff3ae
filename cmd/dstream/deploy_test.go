package main

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"durablestream/internal/longtest"
)

// What is said here of containers is checked without a container engine.
// deploy/containers reads the files with the libraries of `docker compose` and
// `docker build`.

// top is a file of the repository.
func top(path string) string { return filepath.Join("..", "..", path) }

// composeFile is a compose file as Docker understands it, as far as the tests look.
type composeFile struct {
	Services map[string]struct {
		Command, Entrypoint []string
		Environment         map[string]*string
		Restart, User       string
		Privileged          bool
		StopGracePeriod     *string `json:"stop_grace_period"`
		Volumes             []struct{ Type, Source, Target string }
		Ports               []struct {
			HostIP    string `json:"host_ip"`
			Published string
		}
		HealthCheck *struct{ Test []string }
		Secrets     []struct{ Source string }
	}
	Secrets map[string]struct{ File string }
}

// stage is one of a Dockerfile.
type stage struct {
	Base     string
	Commands []struct {
		Kind, Text, User string
		CmdLine          []string `json:"cmd_line"`
		Shell            bool
	}
}

type composeText struct {
	Text string   `json:"text"`
	Env  []string `json:"env"`
}

// asDocker reads files as Docker does.
func asDocker(t *testing.T, compose []composeText, dockerfiles ...string) ([]composeFile, [][]stage) {
	t.Helper()
	question, err := json.Marshal(map[string]any{"compose": compose, "dockerfiles": dockerfiles})
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), "go", "run", "-C", top("deploy/containers"), ".")
	cmd.Stdin = bytes.NewReader(question)
	var words bytes.Buffer
	cmd.Stderr = &words
	out, err := cmd.Output()
	require.NoError(t, err, "%s", &words)
	var answer struct {
		Compose     []composeFile
		Dockerfiles []struct {
			Stages   []stage
			Warnings []string
		}
	}
	require.NoError(t, json.Unmarshal(out, &answer), "%s", out)
	require.Len(t, answer.Compose, len(compose))
	require.Len(t, answer.Dockerfiles, len(dockerfiles))
	var all [][]stage
	for n, d := range answer.Dockerfiles {
		require.Empty(t, d.Warnings, "%s", dockerfiles[n])
		all = append(all, d.Stages)
	}
	return answer.Compose, all
}

func composeProject(t *testing.T, text string, env ...string) composeFile {
	t.Helper()
	p, _ := asDocker(t, []composeText{{text, env}})
	return p[0]
}

func readCompose(t *testing.T) string {
	t.Helper()
	return string(must(os.ReadFile(top("docker-compose.yml"))))
}

// clusterScript runs deploy/cluster.sh in the top directory.
func clusterScript(ctx context.Context, env []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "deploy/cluster.sh", args...)
	cmd.Dir = top(".")
	cmd.Env = append(os.Environ(), env...)
	return cmd
}

func printedCluster(t *testing.T) string {
	t.Helper()
	out, err := clusterScript(t.Context(), nil, "--print").Output()
	require.NoError(t, err)
	return string(out)
}

// process is one command line with its environment.
type process struct {
	env  map[string]string
	args []string
}

// composed are the processes of docker-compose.yml.
func composed(p composeFile) map[string]process {
	all := map[string]process{}
	for name, s := range p.Services {
		env := map[string]string{}
		for k, v := range s.Environment {
			env[k] = *v
		}
		all[name] = process{env, s.Command}
	}
	return all
}

// printed are the processes of `cluster.sh --print`, as they are in containers: on a
// port of their own machine, with their own directory.
func printed(text string) (map[string]process, error) {
	all := map[string]process{}
	for line := range strings.Lines(text) {
		name, rest, ok := strings.Cut(strings.TrimSpace(line), ": ")
		words := strings.Fields(rest)
		at := slices.Index(words, "bin/dstream")
		if !ok || at < 0 {
			return nil, fmt.Errorf("cluster.sh prints %q", line)
		}
		p := process{env: map[string]string{}}
		for _, w := range words[:at] {
			k, v, _ := strings.Cut(w, "=")
			p.env[k] = inContainer(name, v)
		}
		for n, w := range words[at+1:] {
			w = inContainer(name, w)
			if strings.HasSuffix(words[at+n], "listen") || words[at+n] == "--monitor" {
				// Only its own: another's stays, and differs.
				w = strings.NewReplacer(name+":", "0.0.0.0:", "n4:", "127.0.0.1:").Replace(w)
			}
			p.args = append(p.args, w)
		}
		all[name] = p
	}
	return all, nil
}

var localPort = regexp.MustCompile(`127\.0\.0\.1:(42|62|82)2([1234])\b`)

func inContainer(name, word string) string {
	word = localPort.ReplaceAllString(word, "n$2:${1}22")
	word = strings.ReplaceAll(word, ".cluster/keys/", "/run/secrets/")
	if word == ".cluster/"+name {
		return "/data"
	}
	return word
}

// sameCluster says in what a compose file and cluster.sh differ.
func sameCluster(p composeFile, script string) error {
	want, err := printed(script)
	if err != nil {
		return err
	}
	have := composed(p)
	if len(have) != len(want) {
		return fmt.Errorf("%d services, and %d processes", len(have), len(want))
	}
	for name, w := range want {
		h, ok := have[name]
		if !ok {
			return fmt.Errorf("%s: not a service", name)
		}
		err = errors.Join(err, sameProcess(name, h, w))
	}
	return err
}

func sameProcess(name string, have, want process) error {
	if fmt.Sprint(have.env) != fmt.Sprint(want.env) { // maps print in order
		return fmt.Errorf("%s has the environment\n%v in docker-compose.yml, and\n%v in cluster.sh", name, have.env, want.env)
	}
	h, err := parsed(have.args)
	if err != nil {
		return fmt.Errorf("%s in docker-compose.yml: %w", name, err)
	}
	w, err := parsed(want.args)
	if err != nil {
		return fmt.Errorf("%s in cluster.sh: %w", name, err)
	}
	if h != w {
		return fmt.Errorf("%s is\n%s in docker-compose.yml, and\n%s in cluster.sh", name, h, w)
	}
	return nil
}

// parsed is a command line as the program understands it: the command, then the
// flags that were given, in the order of their names.
func parsed(args []string) (string, error) {
	cmd, rest, err := newRoot().Find(args)
	if err == nil && !cmd.HasParent() {
		err = errors.New("no such command")
	}
	if err == nil {
		err = cmd.ParseFlags(rest)
	}
	if err == nil {
		err = cmd.ValidateArgs(cmd.Flags().Args())
	}
	if err == nil {
		err = errors.Join(cmd.ValidateRequiredFlags(), cmd.ValidateFlagGroups())
	}
	if err != nil {
		return "", fmt.Errorf("%q: %w", strings.Join(args, " "), err)
	}
	return given(cmd), nil
}

func given(cmd *cobra.Command) string {
	words := []string{cmd.CommandPath()}
	cmd.Flags().Visit(func(f *pflag.Flag) { words = append(words, "--"+f.Name+"="+f.Value.String()) })
	return strings.Join(append(words, cmd.Flags().Args()...), " ")
}

// The containers are the processes that `make cluster` starts.
func TestComposeIsTheCluster(t *testing.T) {
	t.Parallel()
	text, script := readCompose(t), printedCluster(t)
	type change struct{ old, changed string }
	both := []change{
		{"--replicas 3", "--replicas 1"},
		{"--name n2", "--name n1"},
		{" --no-mirror", ""},
		{"mirror run --monitor", "mirror run --sweeper --monitor"},
		{"--cluster-name ds", "--cluster-name other"},
	}
	inCompose := append(slices.Clone(both), []change{
		{"--listen 0.0.0.0:4222", "--listen 0.0.0.0:4223"},
		{"nats://n3:6222", "nats://n3:6223"},
		{"--replicas 3", "--repliças 3"},
		{"/run/secrets/server.pem", "/run/secrets/other.pem"},
		{"DSTREAM_NKEY", "DSTREAM_KEY"},
		{"nats://n1:4222,", ""},
	}...)
	inScript := append(slices.Clone(both), []change{
		{"--listen 127.0.0.1:4221", "--listen 127.0.0.1:4222"},
		{"nats://127.0.0.1:6223", "nats://127.0.0.1:6222"},
		{".cluster/n2", ".cluster/n1"},
	}...)
	texts := []composeText{{Text: text}}
	for _, c := range inCompose {
		require.Contains(t, text, c.old)
		texts = append(texts, composeText{Text: strings.Replace(text, c.old, c.changed, 1)})
	}
	p, _ := asDocker(t, texts)
	require.NoError(t, sameCluster(p[0], script))

	// The check sees a change on either side.
	for n, c := range inCompose {
		require.Error(t, sameCluster(p[n+1], script), "%s in docker-compose.yml", c.changed)
	}
	for _, c := range inScript {
		require.Contains(t, script, c.old)
		require.Error(t, sameCluster(p[0], strings.Replace(script, c.old, c.changed, 1)), "%s in cluster.sh", c.changed)
	}
}

// What makes the containers safe to leave alone.
func TestCompose(t *testing.T) {
	t.Parallel()
	p := composeProject(t, readCompose(t))
	require.Len(t, p.Services, 4)
	ports := map[string]bool{}
	known := newRoot().UsageString()
	for name, s := range p.Services {
		for env := range s.Environment {
			require.Contains(t, known, "$"+env+")", "%s: what no flag takes", name)
		}
		require.Equal(t, "unless-stopped", s.Restart, name)
		require.NotNil(t, s.StopGracePeriod, name)
		require.Empty(t, s.Entrypoint, "%s: the image's, which is dstream", name)
		require.Empty(t, s.User, "%s: the image's, which is not root", name)
		require.False(t, s.Privileged, name)
		require.Len(t, s.Volumes, 1, name)
		require.Equal(t, "volume", s.Volumes[0].Type, name)
		require.Equal(t, name, s.Volumes[0].Source, "a volume of its own")
		require.Equal(t, "/data", s.Volumes[0].Target)
		for _, port := range s.Ports {
			require.Equal(t, "127.0.0.1", port.HostIP, "%s publishes %s on the loopback only", name, port.Published)
			require.False(t, ports[port.Published], "%s is published twice", port.Published)
			ports[port.Published] = true
			require.Contains(t, printedCluster(t), "127.0.0.1:"+port.Published, "as in make cluster")
		}
		require.NotNil(t, s.HealthCheck, name)
		require.Equal(t, []string{"CMD", "/dstream", "health"}, s.HealthCheck.Test[:3], "there is no shell")
		_, err := parsed(s.HealthCheck.Test[2:])
		require.NoError(t, err)
		command, asked := strings.Join(s.Command, " "), s.HealthCheck.Test[3]
		if name == "mirror" {
			require.Contains(t, command, "--monitor "+asked)
			continue
		}
		require.Contains(t, command, "--monitor 0.0.0.0:8222")
		require.Equal(t, "https://localhost:8222", asked, "where --monitor listens, with TLS")
	}
	require.Len(t, ports, 6)
}

// Every file that is mounted is one that `cluster.sh keys` makes, with `dstream keys`,
// and none is for people: not an operator's seed, and not the authority's key.
func TestComposeMountsWhatKeysMake(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	out, err := clusterScript(t.Context(), asDstream(t), "keys", dir).CombinedOutput()
	require.NoError(t, err, "%s", out)
	p := composeProject(t, readCompose(t), "DSTREAM_KEYS="+dir)
	require.NotEmpty(t, p.Secrets)
	for name, s := range p.Secrets {
		require.Equal(t, filepath.Join(dir, name), s.File)
		require.FileExists(t, s.File)
		require.NotContains(t, []string{"operator.nk", "admin.nk", "agent.nk", "ca.key"}, name)
	}
	inside := regexp.MustCompile(`/run/secrets/(\S+)`)
	for name, s := range p.Services {
		mounted := map[string]bool{}
		for _, m := range s.Secrets {
			mounted[m.Source] = true
			require.Contains(t, p.Secrets, m.Source)
		}
		for _, used := range inside.FindAllStringSubmatch(fmt.Sprint(s.Command, composed(p)[name].env), -1) {
			used := strings.TrimRight(used[1], "]")
			require.True(t, mounted[used], "%s uses %s, which is not mounted", name, used)
			delete(mounted, used)
		}
		require.Empty(t, mounted, "%s mounts what it does not use", name)
	}
}

// The image holds one static program, runs as nobody in particular, and is the same
// whichever way it is built.
func TestDockerfile(t *testing.T) {
	t.Parallel()
	_, files := asDocker(t, nil, string(must(os.ReadFile(top("Dockerfile")))), string(must(os.ReadFile(top("Dockerfile.binary")))))
	stages, built := files[0], files[1]
	require.Len(t, stages, 2)
	require.Len(t, built, 1)

	mod, err := os.ReadFile(top("go.mod"))
	require.NoError(t, err)
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(mod)[1]
	require.Equal(t, "golang:"+string(version), stages[0].Base, "the version of go.mod")
	recipe := must(os.ReadFile(top("Makefile")))
	build := "CGO_ENABLED=0 go build -trimpath -o "
	require.Contains(t, strings.ReplaceAll(string(recipe), "$(GO)", "go"), build)
	require.Contains(t, commands(stages[0], false), "RUN "+build+"/image/dstream ./cmd/dstream && mkdir /image/data", "as make build")

	for _, final := range []stage{stages[1], built[0]} {
		require.Equal(t, "scratch", final.Base)
		var user string
		for _, c := range final.Commands {
			switch c.Kind {
			case "USER":
				user = c.User
			case "RUN":
				t.Errorf("there is nothing to run it with: %s", c.Text)
			case "ENTRYPOINT":
				require.False(t, c.Shell)
				require.Equal(t, []string{"/dstream"}, c.CmdLine)
			}
		}
		uid, gid, _ := strings.Cut(user, ":")
		require.NotZero(t, must(strconv.Atoi(uid)))
		require.NotZero(t, must(strconv.Atoi(gid)))
		require.Contains(t, commands(final, true), "COPY --chown="+user+" data /data", "the directory is the user's own")
		require.Contains(t, commands(final, true), "COPY dstream /dstream")
		require.Contains(t, commands(final, true), "VOLUME /data")
	}
	require.Equal(t, commands(built[0], true), commands(stages[1], true))
}

// commands are the instructions of a stage; final leaves out where files come from.
func commands(s stage, final bool) []string {
	var all []string
	for _, c := range s.Commands {
		text := c.Text
		if final {
			text = strings.NewReplacer(" --from=build", "", " /image/", " ").Replace(text)
		}
		all = append(all, text)
	}
	return all
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// What `make build` makes runs where there is nothing else.
func TestProgramIsStatic(t *testing.T) {
	t.Parallel()
	longtest.Only(t, "it builds the program again; the other tests run the program that the test binary is")
	path := filepath.Join(t.TempDir(), "dstream")
	out, err := exec.CommandContext(t.Context(), "make", "-C", top("."), "build", "BIN="+path).CombinedOutput()
	require.NoError(t, err, "%s", out)
	f, err := elf.Open(path)
	require.NoError(t, err)
	defer f.Close()
	for _, p := range f.Progs {
		require.NotEqual(t, elf.PT_INTERP, p.Type, "it needs a loader")
	}
	libraries, err := f.ImportedLibraries()
	require.NoError(t, err)
	require.Empty(t, libraries)
}
