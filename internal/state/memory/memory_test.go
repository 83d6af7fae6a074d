package memory_test

import (
	"testing"

	"github.com/cove-engine/cove/internal/state"
	"github.com/cove-engine/cove/internal/state/memory"
	"github.com/cove-engine/cove/internal/state/statetest"
)

func TestSuite(t *testing.T) {
	statetest.Run(t, statetest.Backend{Open: func(testing.TB) state.Store { return memory.Open() }})
}
