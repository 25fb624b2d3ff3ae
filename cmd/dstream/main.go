// Command dstream hosts, writes and reads the log of a project.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"durablestream/internal/console"
	"durablestream/internal/paths"
	"durablestream/internal/place"
)

func main() {
	place.OwnProcess()
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run runs one command line and returns its exit status.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	stdout, out := console.Of(stdout)
	defer out()
	stderr, words := console.Of(stderr)
	defer words()
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	var status *exitError
	if !errors.As(err, &status) {
		fmt.Fprintf(stderr, "dstream: %s\n", console.Plain(said(paths.Denied(err))))
		return exitFailed
	}
	if status.err != nil {
		fmt.Fprintf(stderr, "dstream: %s\n", console.Plain(said(status.err)))
	}
	return status.code
}

// said is what an error says, without our packages' names at its beginning: a user does
// not know them.
func said(err error) string {
	s := err.Error()
	for {
		name, rest, ok := strings.Cut(s, ": ")
		if !ok || !slices.Contains([]string{"durablestream", "client", "mirror", "broker", "address", "legacy", "agents"}, name) {
			return s
		}
		s = rest
	}
}

func newRoot() *cobra.Command {
	o := &options{}
	root := &cobra.Command{
		Use:   "dstream",
		Short: "A durable, ordered log of what AI agents do",
		Long: `dstream hosts, writes and reads the log of a project: what its agents did, in one
order, fsynced before it is acknowledged, in .opencode/durable_stream.jsonl a
moment later.

  dstream serve                          host the log of this project
  dstream append task.created --stream ses_1 --actor agent/planner \
      --payload '{"title":"Refactor Auth"}'
  dstream tail 'task.*'                  see events live

Exit status: 0 done, 1 failed, 2 wrong usage, 3 decided otherwise.`,
		Version:       versionLine(buildInfo()),
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage(fmt.Errorf("unknown command %q: 'dstream --help' lists them", args[0]))
			}
			return cmd.Help()
		},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage(fmt.Errorf("%w: see '%s --help'", flagError(err), cmd.CommandPath()))
	})
	root.SetVersionTemplate("{{.Version}}\n")
	root.Flags().Bool("version", false, "print what 'dstream version' prints")
	root.CompletionOptions.HiddenDefaultCmd = true
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		switch {
		case o.dir == "":
			return usage(errors.New("--dir (DSTREAM_DIR) is empty: it names the directory of the log, .opencode if it is left out"))
		case (o.tls.Cert == "") != (o.tls.Key == ""):
			return usage(errors.New("--tls-cert and --tls-key go together: a certificate, and its own key"))
		}
		o.dir, o.worktree = place.WorkTree(o.dir, o.shared)
		return nil
	}
	f := root.PersistentFlags()
	f.StringVar(&o.dir, "dir", fromEnv("DSTREAM_DIR", place.Default()), "directory of the log and its mirror: .opencode here, or at the root of the main git work tree ($DSTREAM_DIR)")
	f.BoolVar(&o.shared, "shared", false, "where --dir is that of a linked work tree without a log of its own: the log that the work trees share")
	_ = f.MarkHidden("shared") // it is for plugins, which know the project and not the log
	f.StringSliceVar(&o.servers, "server", serversFromEnv(), "NATS server that holds the log, instead of a host in --dir (repeatable, $DSTREAM_SERVER)")
	f.StringVar(&o.nkey, "nkey", fromEnv("DSTREAM_NKEY", ""), "file with the seed of the key to connect with ($DSTREAM_NKEY)")
	f.StringVar(&o.tls.CA, "tls-ca", fromEnv("DSTREAM_TLS_CA", ""), "PEM file of the authorities to trust ($DSTREAM_TLS_CA)")
	f.StringVar(&o.tls.Cert, "tls-cert", fromEnv("DSTREAM_TLS_CERT", ""), "PEM file of this program's own certificate ($DSTREAM_TLS_CERT)")
	f.StringVar(&o.tls.Key, "tls-key", fromEnv("DSTREAM_TLS_KEY", ""), "PEM file of its key ($DSTREAM_TLS_KEY)")
	f.StringSliceVar(&o.monitors, "server-monitor", nil, "monitoring URL of a --server, where what it promises is read (repeatable)")
	f.BoolVar(&o.acceptWeaker, "accept-weaker-durability", false, "go on with a --server that promises less than the log needs")
	f.BoolVar(&o.json, "json", false, "answer in JSON")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "tell on stderr what goes on in the background")
	mirror, opencode := mirrorCommand(o), opencodeCommand(o)
	mirror.AddCommand(mirrorRunCommand(o))
	opencode.AddCommand(opencodeInstall(o))
	root.AddCommand(
		serveCommand(o), appendCommand(o), queryCommand(o), tailCommand(o), mirror,
		checkpointCommand(o), intentCommand(o), resumeCommand(o), lineageCommand(o),
		importCommand(o), restoreCommand(o), statusCommand(o), healthCommand(o), versionCommand(o),
		keysCommand(o), doctorCommand(o), rpcCommand(o), opencode, benchCommand(o),
	)
	return root
}

// flagError says what a flag's value must be, where the library tells which of its
// functions could not read it.
func flagError(err error) error {
	var wrong *pflag.InvalidValueError
	if !errors.As(err, &wrong) {
		return err
	}
	rule := map[string]string{
		"bool": "true or false", "duration": "a duration such as 90s or 1h30m",
		"int": "a whole number", "int64": "a whole number", "uint64": "a whole number, 0 or more",
	}[wrong.GetFlag().Value.Type()]
	if rule == "" {
		return err
	}
	return fmt.Errorf("--%s %q: must be %s", wrong.GetFlag().Name, wrong.GetValue(), rule)
}
