// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

// Package simulate makes a believable herd and its platform (cattle with
// collars and rumen boluses, WildFi tags, a weather station, barn sensors,
// cameras, a lidar and a stereo rig) publish to an MQTT broker.
//
// Part of the messages can be faulty, in named classes. Each message states
// the outcome that the ingestion rules give it, and carries a number by which
// it can be found again wherever it ends up, so that a test can account for
// every single one.
//
// Herd is pure: the same Config gives the same messages, byte for byte (on one
// processor architecture; others may round a sum differently). Run publishes
// what a Herd makes.
package simulate
