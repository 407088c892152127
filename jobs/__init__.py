"""The job record that the API and the workers share: states, tables, repositories, doorbells, artifacts."""
