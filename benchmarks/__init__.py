"""The same application with and without a profiler to instructions, seconds and bytes that the profiler adds."""
