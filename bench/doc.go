// Package bench holds the measurements of docs/performance.md, as benchmarks. It is a
// module of its own, so that a program that imports durablestream does not carry SQLite in
// its go.mod. What dstream bench measures too is in internal/measure.
package bench
