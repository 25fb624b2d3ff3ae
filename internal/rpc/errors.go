package rpc

import (
	"context"
	"errors"
	"maps"

	"github.com/creachadair/jrpc2"

	"durablestream/client"
	"durablestream/event"
	"durablestream/internal/wire"
)

// codes are the errors of docs/protocol.md, by the name that their data carries. Names
// are for programs, and never change.
var codes = map[string]jrpc2.Code{
	"invalid":            jrpc2.InvalidParams,
	"conflict":           -32001,
	"decided":            -32002,
	"expired":            -32002,
	"cancelled":          -32002,
	"unknown_checkpoint": -32003,
	"unknown_intent":     -32003,
	"unknown_option":     -32004,
	"answer":             -32004,
	"own_checkpoint":     -32004,
	"ended":              -32005,
	"held":               -32005,
	"duplicate_id":       -32006,
	"too_large":          -32007,
	"disk_full":          -32008,
	"not_allowed":        -32009,
	"refused":            -32010,
	"unknown_outcome":    -32011,
	"timeout":            -32012,
	"shutting_down":      -32013,
	"unread":             -32014,
	"log":                -32015,
	"blocked":            -32016,
	"internal":           jrpc2.InternalError,
}

func fault(name, message string, data map[string]any) *jrpc2.Error {
	all := map[string]any{"error": name}
	maps.Copy(all, data)
	return &jrpc2.Error{Code: codes[name], Message: message, Data: encode(all)}
}

// toError gives an error its code and its data.
func toError(err error) *jrpc2.Error {
	name, data := nameOf(err)
	return fault(name, err.Error(), data)
}

// nameOf goes from what says most about the caller's request to what says least.
func nameOf(err error) (string, map[string]any) {
	var invalid *event.InvalidError
	var decided *client.DecidedError
	var ended *client.EndedError
	var held *client.HeldError
	var conflict *client.ConflictError
	var large *client.TooLargeError
	var role *client.NotAllowedError
	var refused *client.RefusedError
	switch {
	case errors.Is(err, client.ErrUnknownOutcome):
		return "unknown_outcome", nil
	case errors.As(err, &invalid):
		return "invalid", map[string]any{"field": invalid.Field, "value": short(invalid.Value), "rule": invalid.Rule}
	case errors.As(err, &decided):
		name := "decided"
		switch {
		case errors.Is(err, client.ErrCancelled):
			name = "cancelled"
		case errors.Is(err, client.ErrExpired):
			name = "expired"
		}
		return name, map[string]any{"checkpoint": decided.Checkpoint}
	case errors.As(err, &ended):
		return "ended", map[string]any{"intent": ended.Intent}
	case errors.As(err, &held):
		return "held", map[string]any{"intent": held.Intent}
	case errors.As(err, &conflict):
		return "conflict", map[string]any{"guard": conflict.Guard, "expected": conflict.Expected, "seq": conflict.Seq, "winner": conflict.Winner}
	case errors.As(err, &large):
		return "too_large", map[string]any{"size": large.Size, "limit": large.Limit}
	case errors.As(err, &role):
		return "not_allowed", map[string]any{"role": role.Role, "needs": role.Needs, "what": role.What}
	case errors.As(err, &refused):
		return "refused", map[string]any{"code": refused.Code, "reason": refused.Reason}
	}
	for _, known := range []struct {
		err  error
		name string
	}{
		{client.ErrUnknownCheckpoint, "unknown_checkpoint"},
		{client.ErrUnknownIntent, "unknown_intent"},
		{client.ErrBlocked, "blocked"},
		{client.ErrUnknownOption, "unknown_option"},
		{client.ErrAnswer, "answer"},
		{client.ErrOwnCheckpoint, "own_checkpoint"},
		{client.ErrDuplicateID, "duplicate_id"},
		{client.ErrDiskFull, "disk_full"},
		{client.ErrDiskReadOnly, "disk_full"},
		{client.ErrTornBatch, "disk_full"},
		{client.ErrNotAllowed, "not_allowed"},
		{client.ErrOtherLog, "log"},
		{client.ErrNoLog, "log"},
		{client.ErrClosed, "log"},
		{wire.ErrRestoring, "log"},
		{context.DeadlineExceeded, "timeout"},
		{context.Canceled, "shutting_down"},
	} {
		if errors.Is(err, known.err) {
			return known.name, nil
		}
	}
	return "internal", nil
}
