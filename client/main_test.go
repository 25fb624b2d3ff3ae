package client_test

import (
	"testing"

	"durablestream/internal/brokertest"
)

func TestMain(m *testing.M) { brokertest.Main(m) }
