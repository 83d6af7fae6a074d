package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/cove-engine/cove/internal/plan"
)

// RunHooks runs hooks one after the other; each reads the state. The first that
// fails ends it.
func RunHooks(point string, hooks []plan.Hook, state plan.HookState) error {
	if len(hooks) == 0 {
		return nil
	}
	text, err := json.Marshal(state)
	if err != nil {
		return err
	}
	for i := range hooks {
		if err := runHook(&hooks[i], text); err != nil {
			return fmt.Errorf("%s hook #%d, %s: %w", point, i, hooks[i].Path, err)
		}
	}
	return nil
}

func runHook(h *plan.Hook, state []byte) error {
	ctx := context.Background()
	if h.Timeout > 0 {
		limited, cancel := context.WithTimeout(ctx, time.Duration(h.Timeout)*time.Second)
		defer cancel()
		ctx = limited
	}
	cmd := exec.CommandContext(ctx, h.Path)
	if len(h.Args) > 0 {
		cmd.Args = h.Args
	}
	cmd.Env = append([]string{}, h.Env...) // none is none, not ours
	cmd.Stdin = bytes.NewReader(state)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	// A hook may leave something running that holds its output.
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("did not end within %d seconds", h.Timeout)
	}
	if err != nil {
		if said := strings.TrimSpace(out.String()); said != "" {
			err = fmt.Errorf("%w: %s", err, said)
		}
	}
	return err
}
