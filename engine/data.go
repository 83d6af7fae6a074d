package engine

import (
	"github.com/cove-engine/cove/internal/checkpoint"
	"github.com/cove-engine/cove/internal/engine"
	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/inspect"
	"github.com/cove-engine/cove/internal/rootfs/changes"
)

// What verbs take and give. The nouns (container, volume, network, event) are in
// the root package.
type (
	CreateOptions  = engine.CreateOptions
	RunOptions     = engine.RunOptions
	RunResult      = engine.RunResult
	StartOptions   = engine.StartOptions
	StopOptions    = engine.StopOptions
	AttachOptions  = engine.AttachOptions
	Streams        = engine.Streams
	ExecSpec       = engine.ExecSpec
	ExecResult     = engine.ExecResult
	WaitOptions    = engine.WaitOptions
	RemoveOptions  = engine.RemoveOptions
	ListOptions    = engine.ListOptions
	Container      = engine.Container
	LogOptions     = engine.LogOptions
	LogLine        = engine.LogLine
	Stats          = engine.Stats
	InterfaceStats = engine.InterfaceStats
	Change         = changes.Change
	Difference     = engine.Difference
	PullOptions    = image.PullOptions
	PushOptions    = image.PushOptions
	LoadOptions    = image.LoadOptions
	SaveOptions    = image.SaveOptions
	ImportOptions  = image.ImportOptions
	LoginOptions   = image.LoginOptions
	LogoutOptions  = image.LogoutOptions
	Transfer       = image.Transfer
	BlobProgress   = image.BlobProgress
	ImageSummary   = image.Summary
	ImageData      = image.ImageData
	HistoryEntry   = image.HistoryEntry
	RemovedImage   = image.RemoveReport
	Info           = inspect.Info
	DiskUsage      = inspect.DiskUsage
	VolumeData     = inspect.Volume
	NetworkData    = inspect.Network

	CheckpointOptions    = engine.CheckpointOptions
	CheckpointResult     = engine.CheckpointResult
	CheckpointStatistics = checkpoint.Statistics
	RestoreOptions       = engine.RestoreOptions

	// ExportCheckpointOptions and ImportCheckpointOptions are those of a
	// checkpoint's archive, made and restored.
	ExportCheckpointOptions = engine.ExportOptions
	ImportCheckpointOptions = engine.ImportOptions

	// ListImagesOptions and RemoveImageOptions are those of Images and
	// RemoveImages.
	ListImagesOptions  = image.ListOptions
	RemoveImageOptions = image.RemoveOptions
)
