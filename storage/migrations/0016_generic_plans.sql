-- Plan once a connection what thousands ask when they come back. The number of elements of an array looks different to
-- the planner each time, so it made a new plan for each call: 250 of the 310 us that the head of one channel took. The
-- plans cannot differ, because the functions leave the planner no choice of joins and scans.
alter function read_channels set plan_cache_mode = force_generic_plan;
alter function kept_from set plan_cache_mode = force_generic_plan;
alter function entrances set plan_cache_mode = force_generic_plan;
alter function newest_rooms set plan_cache_mode = force_generic_plan;
alter function memberships set plan_cache_mode = force_generic_plan;
