package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// bench is one run of the benchmark.
type bench struct {
	options
	ctx     context.Context
	work    string // removed at the end
	tmp     string // for the engines' temporary files
	image   string // the archive with imageName
	houses  int    // how many there have been
	engines []*house
	// serving are the houses' registries.
	serving []*exec.Cmd
}

const imageName = "localhost/bench:latest"

// begin makes the image and the houses. Its result must be ended also when
// there is an error. Only cove has to be there.
func begin(ctx context.Context, o options) (*bench, error) {
	b := &bench{options: o, ctx: ctx}
	var err error
	dir := os.Getenv("TMPDIR")
	if dir == "" {
		dir = "/var/tmp" // a disk, also where /tmp is memory
	}
	if b.work, err = os.MkdirTemp(dir, "cove-bench-"); err != nil {
		return b, err
	}
	if err := newDisk(b.work); err != nil {
		// Some kernels have no loop devices; the figures hold for this disk.
		fmt.Fprintln(os.Stderr, "bench: no disk of its own, so", dir, "is used:", err)
	}
	b.tmp, b.image = filepath.Join(b.work, "tmp"), filepath.Join(b.work, "image.tar")
	if err := os.Mkdir(b.tmp, 0o755); err != nil {
		return b, err
	}
	if err := writeArchive(b.image); err != nil {
		return b, err
	}
	for _, e := range []struct {
		name, binary string
		needs        []string
	}{
		{"cove", o.cove, nil},
		{"podman", "podman", []string{ociRuntime(), "conmon"}},
		{"docker", "docker", []string{"dockerd", "containerd", "runc"}},
	} {
		h := &house{name: e.name, bench: b}
		b.engines = append(b.engines, h)
		for _, program := range append([]string{e.binary}, e.needs...) {
			path, err := exec.LookPath(program)
			if err != nil && h.missing == nil {
				h.missing = fmt.Errorf("not installed: %w", err)
			}
			if h.binary == "" {
				h.binary = path
			}
		}
		if h.missing == nil {
			h.version = firstLine(h.binary)
			h.missing = h.open()
		}
		if ctx.Err() != nil {
			return b, ctx.Err()
		}
		if h.missing != nil {
			fmt.Fprintln(os.Stderr, "bench:", h.name, "is left out:", h.missing)
		}
		if h.missing != nil && h.name == "cove" {
			return b, h.missing
		}
	}
	return b, nil
}

// ociRuntime is the one that podman can use here: crun wants cgroup version 2
// alone.
func ociRuntime() string {
	if _, err := os.Stat(cgroupRoot + "/cgroup.controllers"); err == nil {
		return "crun"
	}
	return "runc"
}

func (b *bench) end() error {
	if b == nil {
		return nil
	}
	failed := b.stopServing()
	for _, h := range b.engines {
		failed = errors.Join(failed, h.shut())
	}
	if b.work != "" {
		_ = syscall.Unmount(b.work, syscall.MNT_DETACH) // not mounted without a disk
		failed = errors.Join(failed, os.RemoveAll(b.work))
	}
	return failed
}
