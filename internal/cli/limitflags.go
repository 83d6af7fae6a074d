package cli

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/pflag"

	"github.com/cove-engine/cove"
)

// limitFlags are the limits that a container is made with and that can be
// changed while it runs.
type limitFlags struct {
	set                                                func(name string) bool
	given                                              cove.Resources
	blkioWeight, memory, memorySwap, memoryReservation string
	memorySwappiness, pidsLimit                        int64
	devices                                            map[string]*[]string // by kind of limit
}

func (o *limitFlags) flags(fs *pflag.FlagSet) {
	o.set = fs.Changed
	r := &o.given
	fs.StringVar(&o.blkioWeight, "blkio-weight", "", "Block IO weight (relative weight) accepts a weight value between 10 and 1000.")
	o.devices = map[string]*[]string{}
	for _, d := range []struct{ limit, flag, usage string }{
		{"weight", "blkio-weight-device", "Block IO weight (relative device weight, format: `DEVICE_NAME:WEIGHT`)"},
		{"rbps", "device-read-bps", "Limit read rate (bytes per second) from a device (e.g. --device-read-bps=/dev/sda:1mb)"},
		{"riops", "device-read-iops", "Limit read rate (IO per second) from a device (e.g. --device-read-iops=/dev/sda:1000)"},
		{"wbps", "device-write-bps", "Limit write rate (bytes per second) to a device (e.g. --device-write-bps=/dev/sda:1mb)"},
		{"wiops", "device-write-iops", "Limit write rate (IO per second) to a device (e.g. --device-write-iops=/dev/sda:1000)"},
	} {
		o.devices[d.limit] = new([]string)
		sliceVar(fs, o.devices[d.limit], d.flag, "", d.usage)
	}
	fs.Uint64Var(&r.CPURealtimePeriod, "cpu-rt-period", 0, "Limit the CPU real-time period in microseconds")
	fs.Int64Var(&r.CPURealtimeRuntime, "cpu-rt-runtime", 0, "Limit the CPU real-time runtime in microseconds")
	fs.Uint64Var(&r.CPUPeriod, "cpu-period", 0, "Limit the CPU CFS (Completely Fair Scheduler) period")
	fs.Int64Var(&r.CPUQuota, "cpu-quota", 0, "Limit the CPU CFS (Completely Fair Scheduler) quota")
	fs.Uint64VarP(&r.CPUShares, "cpu-shares", "c", 0, "CPU shares (relative weight)")
	fs.Float64Var(&r.CPUs, "cpus", 0, "Number of CPUs. The default is 0.000 which means no limit")
	fs.StringVar(&r.CpusetCPUs, "cpuset-cpus", "", "CPUs in which to allow execution (0-3, 0,1)")
	fs.StringVar(&r.CpusetMems, "cpuset-mems", "", "Memory nodes (MEMs) in which to allow execution (0-3, 0,1). Only effective on NUMA systems.")
	fs.StringVarP(&o.memory, "memory", "m", "", "Memory limit (format: `<number>[<unit>]`, where unit = b (bytes), k (kibibytes), m (mebibytes), or g (gibibytes))")
	fs.StringVar(&o.memoryReservation, "memory-reservation", "", "Memory soft limit (format: `<number>[<unit>]`, where unit = b (bytes), k (kibibytes), m (mebibytes), or g (gibibytes))")
	fs.StringVar(&o.memorySwap, "memory-swap", "", "Swap limit equal to memory plus swap: '-1' to enable unlimited swap")
	fs.Int64Var(&o.memorySwappiness, "memory-swappiness", -1, "Tune container memory swappiness (0 to 100, or -1 for system default)")
	fs.Int64Var(&o.pidsLimit, "pids-limit", 0, "Tune container pids limit (set -1 for unlimited)")
}

// apply changes what was given on the command line.
func (o *limitFlags) apply(r *cove.Resources) (err error) {
	if o.memory != "" {
		if r.Memory, err = bytesOf("memory", o.memory); err != nil {
			return err
		}
	}
	if o.memoryReservation != "" {
		if r.MemoryReservation, err = bytesOf("memory-reservation", o.memoryReservation); err != nil {
			return err
		}
	}
	switch o.memorySwap {
	case "":
	case "-1":
		r.MemorySwap = -1
	default:
		if r.MemorySwap, err = bytesOf("memory-swap", o.memorySwap); err != nil {
			return err
		}
	}
	if n := o.memorySwappiness; n < -1 || n > 100 {
		return fmt.Errorf("invalid value: %d, valid memory swappiness range is 0-100", n)
	} else if n >= 0 {
		u := uint64(n)
		r.MemorySwappiness = &u
	}
	if err := o.applyCPU(r); err != nil {
		return err
	}
	if o.blkioWeight != "" {
		w, err := strconv.ParseUint(o.blkioWeight, 10, 16)
		if err != nil {
			return fmt.Errorf("invalid value for blkio-weight: %w", err)
		}
		if w != 0 && (w < 10 || w > 1000) {
			return fmt.Errorf("invalid value for blkio-weight: %d is not between 10 and 1000", w)
		}
		r.BlkioWeight = uint16(w)
	}
	if o.set("pids-limit") {
		r.PidsLimit = &o.pidsLimit
	}
	return o.applyDevices(r)
}

// applyDevices lays the limits on devices over those that r has.
func (o *limitFlags) applyDevices(r *cove.Resources) error {
	list := slices.Clone(r.BlockDevices) // r's may be a record's
	for _, limit := range slices.Sorted(maps.Keys(o.devices)) {
		for _, text := range *o.devices[limit] {
			d, err := parseDeviceLimit(limit, text)
			if err != nil {
				return err
			}
			list = slices.DeleteFunc(list, func(have cove.DeviceLimit) bool { return have.Path == d.Path && have.Limit == limit })
			list = append(list, d)
		}
	}
	r.BlockDevices = list
	return nil
}

// parseDeviceLimit reads DEVICE:NUMBER, for rates in bytes with a unit.
func parseDeviceLimit(limit, text string) (cove.DeviceLimit, error) {
	d := cove.DeviceLimit{Limit: limit}
	colon := strings.LastIndexByte(text, ':')
	if colon < 0 {
		return d, fmt.Errorf("bad format: %s: want <device-path>:<number>", text)
	}
	d.Path = text[:colon]
	if !strings.HasPrefix(d.Path, "/dev/") {
		return d, fmt.Errorf("bad format for device path: %s", text)
	}
	number, form := text[colon+1:], "a positive integer"
	var err error
	switch limit {
	case "rbps", "wbps":
		form += ", with the unit kb, mb or gb or without"
		var n int64
		if n, err = units.RAMInBytes(number); err == nil && n < 0 {
			err = strconv.ErrRange
		}
		d.Value = uint64(n)
	case "weight":
		form = "10 to 1000"
		if d.Value, err = strconv.ParseUint(number, 10, 16); err == nil && (d.Value < 10 || d.Value > 1000) {
			err = strconv.ErrRange
		}
	default:
		d.Value, err = strconv.ParseUint(number, 10, 64)
	}
	if err != nil {
		return d, fmt.Errorf("invalid rate for device: %s: the number must be %s", text, form)
	}
	return d, nil
}

func (o *limitFlags) applyCPU(r *cove.Resources) error {
	g := &o.given
	if o.set("cpus") {
		if g.CPUPeriod != 0 {
			return errors.New("--cpu-period and --cpus cannot be set together")
		}
		if g.CPUQuota != 0 {
			return errors.New("--cpu-quota and --cpus cannot be set together")
		}
		if g.CPUs < 0 || math.IsNaN(g.CPUs) || math.IsInf(g.CPUs, 0) {
			return fmt.Errorf("invalid value for cpus: %v is not a number of CPUs", g.CPUs)
		}
		r.CPUs, r.CPUPeriod, r.CPUQuota = g.CPUs, 0, 0
	}
	if o.set("cpu-rt-period") {
		r.CPURealtimePeriod = g.CPURealtimePeriod
	}
	if o.set("cpu-rt-runtime") {
		r.CPURealtimeRuntime = g.CPURealtimeRuntime
	}
	if o.set("cpu-period") {
		r.CPUs, r.CPUPeriod = 0, g.CPUPeriod
	}
	if o.set("cpu-quota") {
		r.CPUs, r.CPUQuota = 0, g.CPUQuota
	}
	if o.set("cpu-shares") {
		r.CPUShares = g.CPUShares
	}
	if o.set("cpuset-cpus") {
		r.CpusetCPUs = g.CpusetCPUs
	}
	if o.set("cpuset-mems") {
		r.CpusetMems = g.CpusetMems
	}
	return nil
}
