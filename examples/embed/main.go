// Command embed shows cove as a library: it runs a command in a container,
// waits for its end and removes it.
//
//	sudo go run -tags containers_image_openpgp,exclude_graphdriver_btrfs ./examples/embed docker.io/library/alpine date
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/cove-engine/cove/engine"
)

func main() {
	if engine.Init() {
		return
	}
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: embed IMAGE [COMMAND …]")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code, err := run(ctx, os.Args[1], os.Args[2:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "embed:", err)
	}
	os.Exit(code)
}

func run(ctx context.Context, image string, command []string) (code int, err error) {
	e, err := engine.Open(engine.Options{})
	if err != nil {
		return 1, err
	}
	defer func() { _ = e.Close(context.WithoutCancel(ctx)) }()

	spec, err := e.Defaults()
	if err != nil {
		return 1, err
	}
	spec.Image, spec.Command = image, command
	id, warnings, err := e.Create(ctx, spec, engine.CreateOptions{Progress: os.Stderr})
	if err != nil {
		return 1, err
	}
	for _, w := range warnings {
		fmt.Fprintln(os.Stderr, "embed: warning:", w)
	}
	// Also when we are interrupted.
	defer func() {
		if rerr := e.Remove(context.WithoutCancel(ctx), id, engine.RemoveOptions{Force: true, Volumes: true}); err == nil {
			err = rerr
		}
	}()

	streams := engine.Streams{Out: os.Stdout, Err: os.Stderr}
	ended, err := e.Start(ctx, id, engine.StartOptions{Attach: &engine.AttachOptions{Streams: streams}})
	if err != nil {
		return 1, err
	}
	return ended.ExitCode, nil
}
