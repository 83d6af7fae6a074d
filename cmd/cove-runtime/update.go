package main

import (
	"encoding/json"
	"errors"
	"os"
	"strconv"

	"github.com/docker/go-units"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/runtime"
)

// update has the flags of runc's, or a section of a spec.
func update(c *command, args []string) (int, error) {
	f := c.flags
	file := f.String("resources", "", "file with linux.resources; - is the standard input")
	f.StringVar(file, "r", "", "the same")
	l := &specs.LinuxResources{
		CPU: &specs.LinuxCPU{}, Memory: &specs.LinuxMemory{}, BlockIO: &specs.LinuxBlockIO{}, Pids: &specs.LinuxPids{},
	}
	number := func(name, help string, into func(int64)) {
		f.Func(name, help, func(text string) error {
			n, err := strconv.ParseInt(text, 10, 64)
			if err == nil {
				into(n)
			}
			return err
		})
	}
	bytes := func(name, help string, into **int64) {
		f.Func(name, help, func(text string) error {
			n := int64(-1)
			if text != "-1" {
				var err error
				if n, err = units.RAMInBytes(text); err != nil {
					return err
				}
			}
			*into = &n
			return nil
		})
	}
	unsigned := func(into **uint64) func(int64) {
		return func(n int64) { v := uint64(n); *into = &v }
	}
	signed := func(into **int64) func(int64) { return func(n int64) { *into = &n } }
	number("blkio-weight", "weight of block I/O, 10 to 1000", func(n int64) { w := uint16(n); l.BlockIO.Weight = &w })
	number("cpu-period", "microseconds", unsigned(&l.CPU.Period))
	number("cpu-quota", "microseconds in each period", signed(&l.CPU.Quota))
	number("cpu-burst", "microseconds", unsigned(&l.CPU.Burst))
	number("cpu-share", "relative weight", unsigned(&l.CPU.Shares))
	number("cpu-rt-period", "microseconds", unsigned(&l.CPU.RealtimePeriod))
	number("cpu-rt-runtime", "microseconds", signed(&l.CPU.RealtimeRuntime))
	number("cpu-idle", "0 or 1", signed(&l.CPU.Idle))
	f.StringVar(&l.CPU.Cpus, "cpuset-cpus", "", "processors")
	f.StringVar(&l.CPU.Mems, "cpuset-mems", "", "memory nodes")
	bytes("memory", "bytes", &l.Memory.Limit)
	bytes("memory-reservation", "bytes", &l.Memory.Reservation)
	bytes("memory-swap", "bytes, with memory; -1 no limit", &l.Memory.Swap)
	number("pids-limit", "how many tasks", func(n int64) { l.Pids.Limit = &n })
	for _, name := range []string{"l3-cache-schema", "mem-bw-schema"} {
		f.Func(name, "not supported", func(string) error {
			return cove.E("", "linux.intelRdt", cove.Unsupported, errors.New("is not supported"))
		})
	}
	for _, name := range []string{"kernel-memory", "kernel-memory-tcp"} {
		f.Func(name, "not used: the kernel has none any more", func(string) error {
			c.r.Warn("--" + name + ": is ignored")
			return nil
		})
	}
	id, _, err := c.parse(args, false)
	if err != nil {
		return -1, err
	}
	if *file != "" {
		if l, err = readResources(*file); err != nil {
			return -1, err
		}
	}
	return 0, c.r.Update(id, l)
}

func readResources(file string) (*specs.LinuxResources, error) {
	const op = "read resources"
	var data []byte
	var err error
	if file == "-" {
		data, err = runtime.ReadInput(op, file, os.Stdin)
	} else {
		data, err = runtime.ReadInputFile(op, file)
	}
	if err != nil {
		return nil, err
	}
	l := new(specs.LinuxResources)
	if err := json.Unmarshal(data, l); err != nil {
		return nil, cove.E(op, file, cove.Invalid, err)
	}
	return l, nil
}
