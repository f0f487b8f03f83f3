cpdef bytes encode_frame(long long channel, long long epoch, long long version, long long time_ms, applied, bytes ops,
                         bytes events=*)

cpdef object encode_event_list(events)
