package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"durablestream/client"
	"durablestream/event"
)

// The exit statuses, which scripts rely on.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
	exitOther  = 3 // decided otherwise: rejected, expired, cancelled, conflict
)

// exitError ends the program with a status of its own. A nil err has been told
// already.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return fmt.Sprint(e.err) }
func (e *exitError) Unwrap() error { return e.err }

// usage marks an error as the command line's own.
func usage(err error) error {
	if err == nil {
		return nil
	}
	return &exitError{exitUsage, err}
}

// exactArgs is cobra.ExactArgs with our exit status and words.
func exactArgs(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return usage(fmt.Errorf("%s takes %s, got %d arguments: see '%s --help'", cmd.CommandPath(), what, len(args), cmd.CommandPath()))
		}
		return nil
	}
}

// decided is the exit status of a command that met a decision.
func decided(err error) error {
	var d *client.DecidedError
	var c *client.ConflictError
	var invalid *event.InvalidError
	if errors.As(err, &invalid) {
		return usage(err)
	}
	if errors.As(err, &d) || errors.As(err, &c) || errors.Is(err, client.ErrIntentEnded) || errors.Is(err, client.ErrHeld) {
		return &exitError{exitOther, err}
	}
	return err
}
