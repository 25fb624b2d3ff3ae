package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"durablestream"
	"durablestream/internal/agents/opencode/plugin"
	"durablestream/internal/console"
	"durablestream/internal/paths"
	"durablestream/internal/place"
)

func opencodeInstall(o *options) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Put the plugin into OpenCode's directory of this project",
		Long: `Puts the plugin, one file, into .opencode/plugin/, where OpenCode loads it when it starts:
from then on all that OpenCode does in this project is in the log. --dir is the directory
.opencode of another project.

Where dstream is not on the PATH, or --server, --nkey or the flags of TLS are given, they are
written to .opencode/durable-stream.json, which the plugin reads; it is for this machine. A file that somebody
changed is left as it is, and the difference is told; --force replaces it and keeps a copy.`,
		Args: exactArgs(0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("dir") && os.Getenv("DSTREAM_DIR") == "" {
				o.dir = place.Plugin()
			}
			done, err := install(o, force)
			if err != nil {
				return err
			}
			return show(cmd, o, done, func(w io.Writer) error { return printInstalled(w, o, done) })
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "replace files that were changed, and keep a copy of each")
	return cmd
}

func printInstalled(w io.Writer, o *options, done plugin.Installed) error {
	if len(done.Changed) == 0 {
		fmt.Fprintf(w, "The plugin is in %s already, and up to date.\n", done.Plugin)
		return nil
	}
	for _, path := range done.Changed {
		what := "the plugin, " + durablestream.Version
		if path == done.Config {
			what = "where the plugin finds dstream, and what it is to use; it is for this machine"
		}
		fmt.Fprintf(w, "Wrote %s: %s\n", path, what)
	}
	for _, path := range done.Kept {
		fmt.Fprintf(w, "Kept  %s: as it was\n", path)
	}
	fmt.Fprintf(w, "\nNext: start OpenCode in this project; one that runs loads the plugin when it is started again.\n")
	fmt.Fprintf(w, "  %s tail              shows what it does, live\n", console.Self())
	fmt.Fprintf(w, "  %s checkpoint list   shows what it asks; 'checkpoint approve' answers\n", console.Self())
	if o.nkey == "" && len(o.servers) > 0 {
		fmt.Fprintf(w, "Where the server wants keys, install again with --nkey and --force.\n")
	}
	return nil
}

func install(o *options, force bool) (plugin.Installed, error) {
	dir := paths.Absolute(o.dir)
	if filepath.Base(dir) != ".opencode" {
		return plugin.Installed{}, usage(fmt.Errorf("--dir %s: OpenCode loads plugins from a directory .opencode of the project: name that one", o.dir))
	}
	project := filepath.Dir(dir)
	if repo, ok := paths.FindRepository(project); ok && repo.Root != project {
		root := filepath.Join(repo.Root, ".opencode")
		return plugin.Installed{}, usage(fmt.Errorf("the project begins at %s, where OpenCode's log is: install the plugin there, with --dir %s", filepath.Dir(root), root))
	}
	if !paths.Exists(project) {
		return plugin.Installed{}, usage(paths.MakeDir(dir))
	}
	if err := place.AsOwner(o.dir); err != nil {
		return plugin.Installed{}, err
	}
	if err := paths.NoLogLink(dir); err != nil {
		return plugin.Installed{}, err
	}
	return plugin.Install(plugin.Config{
		Dir: o.dir, Version: durablestream.Version, Force: force,
		Servers: o.servers, NKey: o.nkey, CA: o.tls.CA, Cert: o.tls.Cert, Key: o.tls.Key,
	})
}
