package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"durablestream"
	"durablestream/internal/paths"
	"durablestream/internal/place"
	"durablestream/internal/roles"
)

func keysCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Say who may do what: make and list keys",
		Long: `Keys say who may do what with a log that is served with --keys: an agent appends and
reads, an operator also decides checkpoints and imports, an admin may do everything.
The list holds public keys only. A seed is a secret: whoever reads it can do what its
key may do. Roles protect only where the agents' processes can read neither the store
nor an operator's seed, so these run as another user, or on another machine.

  dstream keys make planner --role agent
  dstream keys make alice --role operator
  dstream serve --keys .opencode/durable_stream/keys.json
  dstream append … --nkey .opencode/durable_stream/keys/planner.nk

A server reads the list when it starts, and again at SIGHUP.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var file string
	cmd.PersistentFlags().StringVar(&file, "keys", "", "the list (default: keys.json in the host's directory of --dir)")
	list := func() string {
		return cmp.Or(file, filepath.Join(o.dir, durablestream.HostDir, "keys.json"))
	}
	become := func() error { // the owner of where the list is written
		if err := place.CheckKeyFiles(o.dir, list()); err != nil {
			return err
		}
		if file == "" {
			return place.AsOwner(o.dir)
		}
		return place.BecomeOwner(filepath.Dir(paths.Absolute(file)))
	}
	cmd.AddCommand(keysMakeCommand(o, list, become), keysListCommand(o, list), keysRemoveCommand(o, list, become), keysConfigCommand(o, list), keysTLSCommand(o))
	return cmd
}

func keysMakeCommand(o *options, list func() string, become func() error) *cobra.Command {
	var role, out string
	cmd := &cobra.Command{
		Use:   "make NAME --role agent|operator|admin",
		Short: "Make a key, and put its public part on the list",
		Long: `Makes a key: its public part goes on the list, its seed into a file of mode 0600. An
agent's seed goes beside the list, an operator's or admin's into the user's configuration
directory: never into the project, where agents read.`,
		Args: exactArgs(1, "a NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, r := args[0], roles.Role(role)
			if !r.Valid() {
				return usage(fmt.Errorf("--role %q: must be agent, operator or admin", role))
			}
			if err := become(); err != nil {
				return err
			}
			keys, err := place.ReadKeys(o.dir, list())
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if slices.ContainsFunc(keys, func(k roles.Key) bool { return k.Name == name }) {
				return fmt.Errorf("the key list %s has a key %s already: remove it first, or choose another name", list(), name)
			}
			if err := roles.CheckName(name); err != nil {
				return usage(err)
			}
			seed := out
			if seed == "" {
				if seed, err = place.Seed(list(), name, r); err != nil {
					return err
				}
			}
			if err := prepareKey(o.dir, list(), seed, r, out != ""); err != nil {
				return err
			}
			k, err := roles.Make(name, r, seed)
			if errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("%w: it may be in use: move it away, or give another --out", err)
			}
			if err != nil {
				return err
			}
			if err := roles.Write(list(), append(keys, k)); err != nil {
				return errors.Join(err, os.Remove(seed))
			}
			words := cmd.ErrOrStderr()
			fmt.Fprintf(words, "the seed of %s is in %s: keep it secret, and give it with --nkey or DSTREAM_NKEY\n", name, seed)
			fmt.Fprintf(words, "a server that runs knows it after SIGHUP, or when it is started again: dstream serve --keys %s\n", list())
			if o.json {
				return printJSON(cmd.OutOrStdout(), struct {
					roles.Key
					Seed string `json:"seed_file"`
				}{k, seed})
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), k.Public)
			return err
		},
	}
	cmd.Flags().StringVar(&role, "role", "", "what the key may do: agent, operator or admin (required)")
	cmd.Flags().StringVar(&out, "out", "", "file for the seed")
	return cmd
}

// prepareKey refuses a link of the project on the way to a seed, and lets git ignore the
// seed's file before there is one. In a directory that the user has named, outside of the
// host's, the user keeps it out of git.
func prepareKey(dir, list, seed string, r roles.Role, named bool) error {
	if named || r == roles.Agent { // else it goes to the user's configuration
		if err := place.CheckKeyFiles(dir, seed, filepath.Join(filepath.Dir(seed), ".gitignore")); err != nil {
			return err
		}
	}
	for _, file := range []string{list, seed} {
		var typo *paths.ParentError
		if err := place.PrepareKeyFile(dir, file); errors.As(err, &typo) {
			return usage(err)
		} else if err != nil {
			return err
		}
	}
	if named {
		return nil
	}
	return place.PrepareSecrets(filepath.Dir(seed), "*.nk")
}

func keysListCommand(o *options, list func() string) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the keys",
		Args:  exactArgs(0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			keys, err := place.ReadKeys(o.dir, list())
			if err != nil {
				return err
			}
			if o.json {
				return printJSON(cmd.OutOrStdout(), map[string]any{"keys": keys})
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
			for _, k := range keys {
				fmt.Fprintf(w, "%s\t%s\t%s\n", k.Name, k.Role, k.Public)
			}
			return w.Flush()
		},
	}
}

func keysRemoveCommand(o *options, list func() string, become func() error) *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME",
		Short: "Take a key off the list",
		Args:  exactArgs(1, "a NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := become(); err != nil {
				return err
			}
			keys, err := place.ReadKeys(o.dir, list())
			if err != nil {
				return err
			}
			rest := slices.DeleteFunc(slices.Clone(keys), func(k roles.Key) bool { return k.Name == args[0] })
			if len(rest) == len(keys) {
				return fmt.Errorf("the key list %s has no key %s", list(), args[0])
			}
			if err := roles.Write(list(), rest); err != nil {
				return err
			}
			fmt.Fprintln(cmd.ErrOrStderr(), "a server that runs lets it in until SIGHUP, or until it is started again")
			return nil
		},
	}
}

func keysConfigCommand(o *options, list func() string) *cobra.Command {
	return &cobra.Command{
		Use:   "server-config",
		Short: "Print what a nats-server needs in its configuration",
		Args:  exactArgs(0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			keys, err := place.ReadKeys(o.dir, list())
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), roles.ServerConfig(keys))
			return err
		},
	}
}

func keysTLSCommand(o *options) *cobra.Command {
	var hosts []string
	var out string
	cmd := &cobra.Command{
		Use:   "tls --host NAME,… --out DIR",
		Short: "Make an authority and a certificate, for tests and small clusters",
		Long: `Makes an authority of your own (ca.pem, ca.key) and a certificate that it signed
(server.pem, server.key), valid for two years, for clients and for the routes of a
cluster. An authority that is in the directory already is used again. Clients need
ca.pem only; ca.key is wanted again only for another certificate: keep it elsewhere.

  dstream keys tls --host n1,n2,n3,localhost,127.0.0.1 --out certs
  dstream serve --tls-cert certs/server.pem --tls-key certs/server.key --tls-ca certs/ca.pem …`,
		Args: exactArgs(0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(hosts) == 0 || out == "" {
				return usage(errors.New("keys tls needs --host, the names and addresses that are dialled, and --out, a directory"))
			}
			var files []string
			for _, name := range []string{roles.CAFile, roles.CAKeyFile, roles.CertFile, roles.CertKey, ".gitignore"} {
				files = append(files, filepath.Join(out, name))
			}
			if err := place.CheckKeyFiles(o.dir, files...); err != nil {
				return err
			}
			if err := place.BecomeOwner(paths.Absolute(out)); err != nil {
				return err
			}
			if err := place.PrepareKeyFile(o.dir, files[0]); err != nil {
				return err
			}
			if err := place.PrepareSecrets(out, "*.key"); err != nil {
				return err
			}
			if err := roles.MakeTLS(out, hosts); err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%s, %s and %s are in %s; keep %s, which is there too, elsewhere\n",
				roles.CAFile, roles.CertFile, roles.CertKey, out, roles.CAKeyFile)
			return nil
		},
	}
	cmd.Flags().StringSliceVar(&hosts, "host", nil, "names and IP addresses by which the server is dialled (required)")
	cmd.Flags().StringVar(&out, "out", "", "directory for the files (required)")
	return cmd
}
