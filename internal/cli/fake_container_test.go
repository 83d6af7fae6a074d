package cli

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/engine"
)

// fakeContainers answers the container verbs that a test gives it; any other
// call is a nil dereference, so a test that reaches one fails.
type fakeContainers struct {
	Engine
	run    func(cove.ContainerSpec, engine.RunOptions) (engine.RunResult, error)
	create func(cove.ContainerSpec, engine.CreateOptions) (string, []string, error)
	list   func(engine.ListOptions) ([]engine.Container, error)
	remove func(string, engine.RemoveOptions) error
	stop   func(string, engine.StopOptions) error
	start  func(string, engine.StartOptions) (engine.RunResult, error)
	exec   func(string, engine.ExecSpec, engine.AttachOptions) (engine.ExecResult, error)
	logs   func(string, engine.LogOptions, func(engine.LogLine) error) error
	stats  func([]string, bool) ([]engine.Stats, error)
	wait   func(string, engine.WaitOptions) (int, error)
	known  map[string]engine.Container

	defaults engine.Defaults
}

func (f *fakeContainers) Defaults() (engine.Defaults, error) { return f.defaults, nil }
func (f *fakeContainers) Run(_ context.Context, s cove.ContainerSpec, o engine.RunOptions) (engine.RunResult, error) {
	return f.run(s, o)
}
func (f *fakeContainers) Create(_ context.Context, s cove.ContainerSpec, o engine.CreateOptions) (string, []string, error) {
	return f.create(s, o)
}
func (f *fakeContainers) List(_ context.Context, o engine.ListOptions) ([]engine.Container, error) {
	return f.list(o)
}
func (f *fakeContainers) Remove(_ context.Context, n string, o engine.RemoveOptions) error {
	return f.remove(n, o)
}
func (f *fakeContainers) Stop(_ context.Context, n string, o engine.StopOptions) error {
	return f.stop(n, o)
}
func (f *fakeContainers) Start(_ context.Context, n string, o engine.StartOptions) (engine.RunResult, error) {
	return f.start(n, o)
}
func (f *fakeContainers) Exec(_ context.Context, n string, s engine.ExecSpec, o engine.AttachOptions) (engine.ExecResult, error) {
	return f.exec(n, s, o)
}
func (f *fakeContainers) Logs(_ context.Context, n string, o engine.LogOptions, each func(engine.LogLine) error) error {
	return f.logs(n, o, each)
}
func (f *fakeContainers) Stats(_ context.Context, n []string, all bool) ([]engine.Stats, error) {
	return f.stats(n, all)
}
func (f *fakeContainers) Wait(_ context.Context, n string, o engine.WaitOptions) (int, error) {
	return f.wait(n, o)
}
func (f *fakeContainers) Container(_ context.Context, n string, _ bool) (engine.Container, error) {
	if c, ok := f.known[n]; ok {
		return c, nil
	}
	return engine.Container{}, noContainer(n)
}

// noContainer is the engine's error for a container that is not there.
func noContainer(name string) error {
	return cove.E("", "", cove.NotFound, errors.New("no container with name or ID \""+name+"\" found: no such container"))
}

// result is how a command line ended.
type result struct {
	code     int
	out, err string
}

// cli runs one command line on e.
func cli(t *testing.T, e Engine, args ...string) result {
	t.Helper()
	return cliIn(t, e, "", args...)
}

func cliIn(t *testing.T, e Engine, in string, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	code := Main(t.Context(), append([]string{"cove"}, args...),
		Stdio{In: strings.NewReader(in), Out: &out, Err: &errs, Env: []string{"HOME=/root", "FOO=bar", "FOOD=fish"}},
		func(Globals) (Engine, error) {
			if e == nil {
				return nil, errors.New("the engine must not be opened")
			}
			return e, nil
		})
	return result{code, out.String(), errs.String()}
}
