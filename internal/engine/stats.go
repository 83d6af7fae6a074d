package engine

import (
	"bufio"
	"bytes"
	"context"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/cgroup"
	"github.com/cove-engine/cove/internal/procfs"
)

// Stats takes one sample of each named container, of every running one without
// names, of every one with all. What does not run has used nothing.
func (e *Engine) Stats(ctx context.Context, nameOrIDs []string, all bool) ([]Stats, error) {
	if err := e.needsCgroup("stats"); err != nil {
		return nil, err
	}
	var list []Container
	if len(nameOrIDs) == 0 {
		var err error
		if list, err = e.List(ctx, ListOptions{All: all}); err != nil {
			return nil, err
		}
	}
	for _, name := range nameOrIDs {
		c, err := e.Container(ctx, name, false)
		if err == nil {
			err = e.hasCgroup(&c.Container, "show stats")
		}
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	system := systemCPU()
	out := make([]Stats, 0, len(list))
	for i := range list {
		s, err := e.sample(&list[i])
		if err != nil {
			return nil, err
		}
		s.SystemNano = system
		out = append(out, s)
	}
	return out, nil
}

func (e *Engine) sample(c *Container) (Stats, error) {
	s := Stats{ID: c.ID, Name: c.Name, At: time.Now(), OnlineCPUs: runtime.NumCPU()}
	if c.Run.PID == 0 {
		return s, nil
	}
	s.Started = c.Run.Started
	dirs, err := e.cgroupDirs(&c.Container)
	if err != nil {
		return s, err
	}
	u, err := cgroup.Stats(dirs)
	if err != nil {
		if cove.Is(err, cove.NoFile) {
			return s, nil // it has just ended, or has no cgroup
		}
		return s, err
	}
	s.CPUNano, s.CPUUserNano, s.CPUKernNano, s.PerCPU = u.CPU, u.CPUUser, u.CPUKernel, u.PerCPU
	s.MemUsage, s.MemLimit = u.Memory, u.MemoryLimit
	s.BlockIn, s.BlockOut, s.PIDs = u.BlockIn, u.BlockOut, u.Pids
	if e.networkMode(&c.Container) != "host" {
		s.Interfaces = interfaceStats(&c.Run)
	}
	for _, i := range s.Interfaces {
		s.NetIn, s.NetOut = s.NetIn+i.RxBytes, s.NetOut+i.TxBytes
	}
	return s, nil
}

// interfaceStats counts for the interfaces of a container's network namespace,
// loopback apart; there are none once it has ended.
func interfaceStats(run *cove.Run) map[string]InterfaceStats {
	p, ok := procfs.OpenDirectory(run.PID)
	if !ok {
		return nil
	}
	defer p.Close()
	data, err := p.Read("net/dev", 1<<20)
	if start, serr := procfs.StartTime(run.PID); err != nil || serr != nil || run.PIDStart != 0 && start != run.PIDStart {
		return nil
	}
	return parseNetDev(data)
}

// parseNetDev reads /proc/net/dev, proc_pid_net(5): bytes, packets, errors and
// drops received in the first columns, the same sent from the ninth on.
func parseNetDev(data []byte) map[string]InterfaceStats {
	out := map[string]InterfaceStats{}
	s := bufio.NewScanner(bytes.NewReader(data))
	for s.Scan() {
		name, rest, ok := strings.Cut(s.Text(), ":")
		name = strings.TrimSpace(name)
		fields := strings.Fields(rest)
		if !ok || len(fields) < 12 || name == "lo" {
			continue
		}
		var n [12]uint64
		for i := range n {
			if n[i], ok = parseCount(fields[i]); !ok {
				break
			}
		}
		if ok {
			out[name] = InterfaceStats{RxBytes: n[0], RxPackets: n[1], RxErrors: n[2], RxDropped: n[3], TxBytes: n[8], TxPackets: n[9], TxErrors: n[10], TxDropped: n[11]}
		}
	}
	return out
}

func parseCount(text string) (uint64, bool) {
	n, err := strconv.ParseUint(text, 10, 64)
	return n, err == nil
}

// systemCPU is the time that all processors of the host have spent since boot,
// idle included, in nanoseconds: docker's system_cpu_usage.
func systemCPU() uint64 {
	var total uint64
	for _, ticks := range cpuTicks() {
		total += ticks
	}
	return total * uint64(time.Second/procfs.UserHZ)
}

// cpuTicks are the first eight columns of /proc/stat's first line, proc_stat(5):
// user, nice, system, idle, iowait, irq, softirq, steal. Guests' time is
// contained in user's.
func cpuTicks() []uint64 {
	p, err := procfs.Read("/proc/stat", 64<<10)
	if err != nil {
		return nil
	}
	line, _, _ := bytes.Cut(p, []byte("\n"))
	fields := strings.Fields(string(line))
	if len(fields) < 9 || fields[0] != "cpu" {
		return nil
	}
	ticks := make([]uint64, 0, 8)
	for _, f := range fields[1:9] {
		n, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return nil
		}
		ticks = append(ticks, n)
	}
	return ticks
}
