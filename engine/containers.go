package engine

import (
	"context"
	"os"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/engine"
)

// Defaults is a container of which nothing has been asked yet but by
// containers.conf: init, privileged, read_only and no_hosts, volumes and mounts, and
// this process's variables that env_host and http_proxy pass on. Who wants
// containers to be made as by the command begins with it; a program whose
// containers are its own affair begins with an empty one. What else containers.conf
// says, Create lays under any.
func (e *Engine) Defaults() (cove.ContainerSpec, error) {
	g, err := e.opened()
	if err != nil {
		return cove.ContainerSpec{}, err
	}
	d, err := g.Defaults()
	d.Spec.HostEnv = engine.HostEnv(d.Environ(os.Environ()), d.EnvHost, d.HTTPProxy)
	return d.Spec, err
}

// Create records a container that can be started. Nothing of it runs.
func (e *Engine) Create(ctx context.Context, spec cove.ContainerSpec, o CreateOptions) (id string, warnings []string, err error) {
	return e.now().Create(ctx, spec, o)
}

// Run creates a container and starts it, in one durable step. Attached, it
// returns when the container has ended or the caller has detached.
func (e *Engine) Run(ctx context.Context, spec cove.ContainerSpec, o RunOptions) (RunResult, error) {
	return e.now().Run(ctx, spec, o)
}

// Start starts a container that was created or has ended. One that runs
// already is left alone.
func (e *Engine) Start(ctx context.Context, nameOrID string, o StartOptions) (RunResult, error) {
	return e.now().Start(ctx, nameOrID, o)
}

// Stop ends a container: its stop signal now, SIGKILL when the time-out is
// over. The monitor keeps the time, so a killed Stop goes on. One that does
// not run is left alone.
func (e *Engine) Stop(ctx context.Context, nameOrID string, o StopOptions) error {
	return e.now().Stop(ctx, nameOrID, o)
}

// Restart stops a container and starts it again; one that does not run is
// started.
func (e *Engine) Restart(ctx context.Context, nameOrID string, o StopOptions) error {
	return e.now().Restart(ctx, nameOrID, o)
}

// Kill sends a signal to a running container's init; "" is SIGKILL.
func (e *Engine) Kill(ctx context.Context, nameOrID, signal string) error {
	return e.now().Kill(ctx, nameOrID, signal)
}

// Update changes a container's limits, restart policy and health check, at once
// when it runs, and gives its full ID. edit is called with the container's spec
// as it is, and changes there what is to change; what else it changes is not
// recorded.
func (e *Engine) Update(ctx context.Context, nameOrID string, edit func(*cove.ContainerSpec) error) (id string, warnings []string, err error) {
	return e.now().Update(ctx, nameOrID, edit)
}

// CheckHealth runs a container's health check now, and tells whether it found
// the container healthy. The outcome is recorded as that of any other.
func (e *Engine) CheckHealth(ctx context.Context, nameOrID string) (healthy bool, err error) {
	return e.now().CheckHealth(ctx, nameOrID)
}

// Pause freezes a running container.
func (e *Engine) Pause(ctx context.Context, nameOrID string) error {
	return e.now().Pause(ctx, nameOrID)
}

// Unpause lets a frozen container go on.
func (e *Engine) Unpause(ctx context.Context, nameOrID string) error {
	return e.now().Unpause(ctx, nameOrID)
}

// Attach joins the caller to the streams of a running container.
func (e *Engine) Attach(ctx context.Context, nameOrID string, o AttachOptions) (RunResult, error) {
	return e.now().Attach(ctx, nameOrID, o)
}

// Exec runs one more process in a running container. It takes no lock and
// writes nothing: the process is the monitor's child, in the container's
// cgroups, and ends with it.
func (e *Engine) Exec(ctx context.Context, nameOrID string, x ExecSpec, o AttachOptions) (ExecResult, error) {
	return e.now().Exec(ctx, nameOrID, x, o)
}

// Wait waits until a container has ended, or has one of the statuses asked
// for, and gives its exit code; -1 for a status other than ended.
func (e *Engine) Wait(ctx context.Context, nameOrID string, o WaitOptions) (int, error) {
	return e.now().Wait(ctx, nameOrID, o)
}

// Remove removes a container with all that is its own. Each step can be done
// again, so a removal that was cut short is finished by the next one.
func (e *Engine) Remove(ctx context.Context, nameOrID string, o RemoveOptions) error {
	return e.now().Remove(ctx, nameOrID, o)
}

// Rename gives a container another name.
func (e *Engine) Rename(ctx context.Context, nameOrID, newName string) error {
	return e.now().Rename(ctx, nameOrID, newName)
}

// PruneContainers removes what has ended or was never started, as far as the
// filters choose it, and gives IDs and, at the same places, the bytes that each
// gave back.
func (e *Engine) PruneContainers(ctx context.Context, filters map[string][]string) (ids []string, sizes []int64, err error) {
	return e.now().PruneContainers(ctx, filters)
}

// List gives the containers that match, oldest first. It waits for no
// container's lock.
func (e *Engine) List(ctx context.Context, o ListOptions) ([]Container, error) {
	return e.now().List(ctx, o)
}

// Container gives one container as it is now.
func (e *Engine) Container(ctx context.Context, nameOrID string, size bool) (Container, error) {
	return e.now().Container(ctx, nameOrID, size)
}

// Logs calls each for every line that a container has written, in order, and
// returns each's error. Following ends when the container's monitor has: a
// restart by policy is waited for. A line's Text is valid during the call only.
func (e *Engine) Logs(ctx context.Context, nameOrID string, o LogOptions, each func(LogLine) error) error {
	return e.now().Logs(ctx, nameOrID, o, each)
}

// Top gives a header row and one row per process of a running container.
// Descriptors are podman's, each may hold several, joined by commas; anything
// else is passed to the container's own ps.
func (e *Engine) Top(ctx context.Context, nameOrID string, descriptors []string) ([][]string, error) {
	return e.now().Top(ctx, nameOrID, descriptors)
}

// Stats takes one sample of each named container, of every running one without
// names, of every one with all. What does not run has used nothing.
func (e *Engine) Stats(ctx context.Context, nameOrIDs []string, all bool) ([]Stats, error) {
	return e.now().Stats(ctx, nameOrIDs, all)
}

// Diff lists what the container has changed of its image, sorted by path. A
// directory counts as changed when something in it is. The paths that every
// container has changed, because something is mounted there, are left out, as
// podman does.
func (e *Engine) Diff(ctx context.Context, nameOrID string) ([]Change, error) {
	return e.now().Diff(ctx, nameOrID, engine.DiffOptions{Containers: true})
}
