package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"durablestream"
	"durablestream/broker"
)

// clusterFlags are the flags of serve for a node of a cluster.
type clusterFlags struct {
	name    string
	cluster broker.ClusterConfig
}

func (f *clusterFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.name, "name", "", "this node's name, unique in its cluster and kept")
	fs.StringVar(&f.cluster.Name, "cluster-name", "", "be a node of this cluster (default: a host of its own)")
	fs.StringVar(&f.cluster.Listen, "cluster-listen", "", "address for the other nodes, host:port")
	fs.StringVar(&f.cluster.Advertise, "cluster-advertise", "", "address by which the other nodes reach --cluster-listen, where it is another one, such as behind a proxy")
	fs.StringSliceVar(&f.cluster.Routes, "routes", nil, "the --cluster-listen of all nodes, as nats://host:port, this one's too")
	fs.IntVar(&f.cluster.Replicas, "replicas", 3, "on how many nodes each event is: 1, 3 or 5")
}

// apply takes the flags over.
func (f *clusterFlags) apply(cmd *cobra.Command, s *durablestream.Serve) error {
	s.Name = f.name
	s.Waiting = func(words string) { fmt.Fprintf(cmd.ErrOrStderr(), "dstream: %s\n", words) }
	if f.cluster.Name == "" {
		for _, flag := range []string{"cluster-listen", "cluster-advertise", "routes", "replicas"} {
			if cmd.Flags().Changed(flag) {
				return usage(fmt.Errorf("--%s is for a node of a cluster: give --cluster-name too", flag))
			}
		}
		return nil
	}
	for _, flag := range []string{"name", "cluster-listen", "routes"} {
		if !cmd.Flags().Changed(flag) {
			return usage(fmt.Errorf("a node of the cluster %s needs --%s", f.cluster.Name, flag))
		}
	}
	cluster := f.cluster
	s.Cluster = &cluster
	return nil
}
