//go:build !linux

package faults

import (
	"context"
	"errors"
	"math/rand/v2"
)

func limitFiles(context.Context, *System, *rand.Rand) (func() error, error) {
	return nil, errors.New("needs Linux")
}
